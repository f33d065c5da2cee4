"""File systems that a guest has prepared for who reads them next: root ends soon, with truth or a refusal.

What parses them has nothing of root's; see ``test_tools``. Here is what such a file system can still do:
write outside of itself, take for ever, leave somebody behind, or pass for patched when it is not.
"""

from __future__ import annotations

import random
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import disks
import pytest
from farm_box import eventually

from banger.contracts.errors import BangerError
from root_worker.host import RootHost
from root_worker.stages import attach_system_disk, patch_rootfs

pytestmark = pytest.mark.integration

SIZE_MIB = 8
BLOCK = 4096
CASES = 120
LONGEST_S = 12  # one tool's deadline and a little


@pytest.fixture
def host(tmp_path: Path, tools_root: Path) -> Iterator[RootHost]:
    """A host whose VM has run once; nothing but its disk changes, and nobody is left behind."""
    host = disks.ready_host(tmp_path / "state", tmp_path, tools_root, size_mib=SIZE_MIB)
    attach_system_disk.do(disks.attach_request(), host)
    before = surroundings(host)
    yield host
    assert surroundings(host) == before
    eventually(lambda: not processes(), deadline_s=5)


def surroundings(host: RootHost) -> dict[str, tuple[int, ...]]:
    """Return all files of the host, with what a write would change; of the disk, what may not change."""
    disk = host.paths.overlay(disks.VM)
    found = {}
    for path in host.paths.state.rglob("*"):
        status = path.lstat()
        changing = 0 if path == disk else status.st_mtime_ns
        found[str(path)] = (status.st_mode, status.st_uid, status.st_size, changing)
    return found


def processes() -> list[str]:
    listed = subprocess.run(
        ["ps", "-o", "stat=,args=", "-u", str(disks.UID)], capture_output=True, text=True, check=False
    )
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


def patched(host: RootHost) -> bool:
    """Patch; True when it says that all is as asked, which is then so, False when it is refused. Soon."""
    started = time.monotonic()
    try:
        patch_rootfs.do(disks.patch_request(), host)
    except BangerError:
        return False
    finally:
        assert time.monotonic() - started < LONGEST_S
    disk = host.paths.overlay(disks.VM)
    for file in disks.FILES:
        assert disks.content(disk, file.path) == file.content
    return True


def write(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def super_block(disk: Path) -> dict[str, str]:
    printed = disks.debugfs(disk, "show_super_stats -h")
    return dict(line.split(":", 1) for line in printed.splitlines() if ":" in line)


# --- fuzzed ---------------------------------------------------------------------------------------

# Where a hostile guest would write: offset and length. The journal's own super block is found by its magic.
REGIONS = {
    "super block": (1024, 1024),
    "group descriptors": (BLOCK, 256),
    "bitmaps and inodes": (2 * BLOCK, 64 * BLOCK),
}
INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\1")


def test_no_fuzzed_metadata_leads_anywhere_but_to_the_truth_or_a_refusal(host: RootHost) -> None:
    chance = random.Random(20261124)
    disk = host.paths.overlay(disks.VM)
    sound = disk.read_bytes()
    journal = sound.index(struct.pack(">II", 0xC03B3998, 4))  # JBD2's magic, and "super block, version 2"
    regions = [*REGIONS.values(), (journal, 1024)]
    outcomes = {True: 0, False: 0}
    for _ in range(CASES):
        write(disk, 0, sound)
        offset, length = chance.choice(regions)
        for _ in range(chance.choice((1, 2, 8, 64))):
            at = offset + chance.randrange(length)
            write(disk, at, chance.choice((*INTERESTING, chance.randbytes(1), chance.randbytes(4))))
        if chance.random() < 0.3:  # as if it had been running: its journal is replayed
            write(disk, 1024 + 0x60, bytes([sound[1024 + 0x60] | 4]))
        outcomes[patched(host)] += 1
    assert all(outcomes.values()), outcomes


# --- prepared -------------------------------------------------------------------------------------


def make_fstab(*commands: str) -> Callable[[Path], None]:
    return lambda disk: disks.debugfs(disk, "rm /etc/fstab", *commands, write=True) and None


def large_fstab(disk: Path) -> None:
    """65 KiB that are really there."""
    source = disk.parents[3] / "large"  # outside of the host
    source.write_bytes(b"# \n" * 22_000)
    disks.debugfs(disk, "rm /etc/fstab", f"write {source} /etc/fstab", write=True)
    source.unlink()


def endless_fstab(disk: Path) -> None:
    """Block lists that lead to themselves, three levels deep: 2**30 blocks for who lists or reads them."""
    disks.debugfs(
        disk,
        "sif /etc/fstab flags 0",
        "sif /etc/fstab block[TIND] 2000",
        "sif /etc/fstab size 0x3ffffffffff",
        write=True,
    )
    write(disk, 2000 * BLOCK, struct.pack("<I", 2000) * (BLOCK // 4))


PREPARED: dict[str, Callable[[Path], None]] = {
    "fstab of 65 KiB": large_fstab,
    "fstab of 1 TiB, all hole": lambda disk: (
        disks.debugfs(disk, "sif /etc/fstab size 0x10000000000", write=True) and None
    ),
    "fstab without end": endless_fstab,
    "fstab as symlink": make_fstab("symlink /etc/fstab /etc/hostname"),
    "fstab as symlink to the host's": make_fstab("symlink /etc/fstab /etc/shadow"),
    "fstab as directory": make_fstab("mkdir /etc/fstab"),
    "fstab as device": make_fstab("mknod fstab c 1 5", "cd /etc", "mknod fstab c 1 5"),
    "fstab as FIFO": make_fstab("cd /etc", "mknod fstab p"),
    "etc as symlink": lambda disk: (
        disks.debugfs(disk, "rm /etc/fstab", "unlink /etc", "symlink /etc /root", write=True) and None
    ),
    "etc as file": lambda disk: disks.debugfs(disk, "sif /etc mode 0100644", write=True) and None,
    "root as symlink": lambda disk: disks.debugfs(disk, "sif / mode 0120777", write=True) and None,
    "etc within itself": lambda disk: (
        disks.debugfs(disk, "unlink /etc/ssh", "ln /etc /etc/ssh", "ln / /etc/banger", write=True) and None
    ),
    "larger than its disk": lambda disk: write(disk, 1024 + 4, struct.pack("<I", 0x7FFFFFFF)),
    "of 2 GiB groups": lambda disk: write(disk, 1024 + 32, struct.pack("<I", 0x7FFFFFFF)),
    "of blocks of 2 GiB": lambda disk: write(disk, 1024 + 24, struct.pack("<I", 21)),
    "of no inodes a group": lambda disk: write(disk, 1024 + 40, struct.pack("<I", 0)),
    "not a file system": lambda disk: write(disk, 1024, bytes(1024)),
}
MAY_BE_PATCHED = {"etc within itself"}


@pytest.mark.parametrize("name", PREPARED)
def test_a_prepared_file_system_is_refused(host: RootHost, name: str) -> None:
    disk = host.paths.overlay(disks.VM)
    PREPARED[name](disk)
    assert not patched(host) or name in MAY_BE_PATCHED


def test_a_journal_that_wraps_for_ever_is_left_behind_in_time(host: RootHost) -> None:
    """Every block of the journal says: a transaction begins here, and it is the one that you look for."""
    disk = host.paths.overlay(disks.VM)
    data = disk.read_bytes()
    journal = data.index(struct.pack(">II", 0xC03B3998, 4))
    length = struct.unpack(">I", data[journal + 16 : journal + 20])[0]
    for number in range(1, length):
        kind = 1 if number % 2 else 2  # descriptor, commit
        write(disk, journal + number * BLOCK, struct.pack(">III", 0xC03B3998, kind, 1 + number // 2))
    write(disk, journal + 24, struct.pack(">II", 1, 1))  # begins with transaction 1, in block 1
    write(disk, 1024 + 0x60, bytes([data[1024 + 0x60] | 4]))
    assert "needs_recovery" in super_block(disk)["Filesystem features"]
    patched(host)


def test_names_that_would_be_other_commands_are_only_names(tmp_path: Path, tools_root: Path) -> None:
    etc = tmp_path / "tree/etc"
    etc.mkdir(parents=True)
    names = ("a\nrm /etc/fstab", ' leading "quote', "debugfs: stat /etc/hostname\n", "x\n\nquit", "%s%n")
    for name in (name.replace("/", "_") for name in names):
        (etc / name).write_text("mine")
    host = disks.ready_host(tmp_path / "state", tmp_path, tools_root, size_mib=SIZE_MIB)
    attach_system_disk.do(disks.attach_request(), host)
    assert patched(host)
    assert disks.content(host.paths.overlay(disks.VM), "/etc/fstab").startswith(disks.FSTAB)


def test_debugfs_itself_would_go_on_for_ever(host: RootHost) -> None:
    disk = host.paths.overlay(disks.VM)
    endless_fstab(disk)
    with subprocess.Popen(
        ["debugfs", "-R", "stat /etc/fstab", disk], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert len(process.stdout.read(16 * disks.MIB)) == 16 * disks.MIB
        assert process.poll() is None
        process.kill()
