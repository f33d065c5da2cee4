"""Games with names in the directory that the unprivileged worker can write: root opens what it has checked.

Whoever has taken over the worker can put anything into a VM's directory, and swap it at any moment. Each game
is first shown to work on somebody who opens by name.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import disks
import pytest

from banger.contracts.errors import BangerError, PolicyError, StageFailedError
from root_worker.host import RootHost
from root_worker.ops import serial_log, vm_drives
from root_worker.stages import attach_system_disk, patch_rootfs

pytestmark = pytest.mark.integration

SECRET = b"root:$y$j9T$secret:20000:0:99999:7:::\n"
ROUNDS = 400
SWAP_DEADLINE_S = 20


@pytest.fixture
def host(tmp_path: Path, tools_root: Path) -> RootHost:
    """A host with a VM that is attached, and has all files that root ever opens for it."""
    host = disks.ready_host(tmp_path / "state", tmp_path, tools_root)
    attach_system_disk.do(disks.attach_request(), host)
    work = host.paths.work_disk(disks.VM)
    work.write_bytes(b"work")
    os.chown(work, disks.WORKER.pw_uid, disks.WORKER.pw_gid)
    disks.open_drives(host)
    return host


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file of root's that no game may reach."""
    path = tmp_path / "shadow"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    before = path.stat()
    yield path
    after = path.stat()
    assert path.read_bytes() == SECRET
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def open_serial_log(host: RootHost) -> None:
    with serial_log.opened(host, disks.VM, disks.UID) as log:
        os.write(log.newer, b"the guest's console")
        os.write(log.older, b"the guest's console")


def open_drives(host: RootHost) -> None:
    with vm_drives.opened(host, disks.VM, disks.UID) as drives:
        for drive in drives:
            os.write(drive.fd, b"the guest's data")


# What root does with a VM's files, and the file that is played with.
USES: dict[str, tuple[str, Callable[[RootHost], object]]] = {
    "attach": ("overlay.img", lambda host: attach_system_disk.do(disks.attach_request(), host)),
    "patch": ("overlay.img", lambda host: patch_rootfs.do(disks.patch_request(), host)),
    "patch, key": ("ssh_host_ed25519_key", lambda host: patch_rootfs.do(disks.patch_request(), host)),
    "patch, public": ("ssh_host_ed25519_key.pub", lambda host: patch_rootfs.do(disks.patch_request(), host)),
    "grant": ("work.ext4", disks.open_drives),
    "drives": ("overlay.img", open_drives),
    "drives, work": ("work.ext4", open_drives),
    "console": ("serial.log", open_serial_log),
    "console, older": ("serial.log.1", open_serial_log),
}


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(path.parent, os.O_PATH)  # socket paths hold 107 bytes, pytest's are longer
        try:
            listener.bind(f"/proc/self/fd/{descriptor}/{path.name}")
        finally:
            os.close(descriptor)


TRAPS: dict[str, Callable[[Path, Path], object]] = {
    "symlink": lambda path, secret: path.symlink_to(secret),
    "hard link": lambda path, secret: os.link(secret, path),
    "hard link of its own": lambda path, secret: own_hard_link(path, secret),
    "directory": lambda path, _: path.mkdir(),
    "fifo": lambda path, _: os.mkfifo(path),
    "device": lambda path, _: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5)),
    "socket": lambda path, _: listen(path),
    "another's": lambda path, _: (path.write_bytes(b"x"), os.chown(path, disks.UID + 1, disks.UID + 1)),
    "dangling symlink": lambda path, secret: path.symlink_to(secret.with_name("made-by-root")),
}


def own_hard_link(path: Path, secret: Path) -> None:
    """A second name of a file that the VM's uid owns: what root gives it would be had under both."""
    other = secret.with_name("other-name")
    other.write_bytes(b"x")
    os.chown(other, disks.UID, disks.UID)
    os.link(other, path)


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("use", USES)
def test_what_is_not_a_file_of_its_own_is_refused(host: RootHost, secret: Path, use: str, trap: str) -> None:
    name, act = USES[use]
    path = host.paths.vm(disks.VM) / name
    path.unlink(missing_ok=True)
    TRAPS[trap](path, secret)
    if trap in ("symlink", "hard link"):
        assert path.read_bytes() == SECRET  # by name, root reads it, and chown would give it away
    with pytest.raises((PolicyError, StageFailedError)):
        act(host)
    assert not secret.with_name("made-by-root").exists()


@pytest.mark.parametrize("use", USES)
def test_a_vms_directory_that_is_a_symlink_is_refused(host: RootHost, tmp_path: Path, use: str) -> None:
    _, act = USES[use]
    directory, elsewhere = host.paths.vm(disks.VM), tmp_path / "elsewhere"
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)
    before = {path.name: path.lstat() for path in elsewhere.iterdir()}
    assert (directory / "overlay.img").exists()  # by name, all of it is there
    with pytest.raises(PolicyError, match="leads elsewhere"):
        act(host)
    assert {path.name: path.lstat().st_mtime_ns for path in elsewhere.iterdir()} == {
        name: found.st_mtime_ns for name, found in before.items()
    }


def test_a_vms_directory_that_is_not_there_is_not_made(host: RootHost, tmp_path: Path) -> None:
    host.paths.vm(disks.VM).rename(tmp_path / "gone")
    for _, act in USES.values():
        with pytest.raises(BangerError):
            act(host)
    assert not host.paths.vm(disks.VM).exists()


# --- the race -------------------------------------------------------------------------------------


def swap_file(path: Path, secret: Path) -> None:
    """For ever: a file of the worker's, a symlink, a file of the worker's, …"""
    scratch = path.with_name("scratch")
    while True:
        scratch.write_bytes(b"x")
        os.chown(scratch, disks.WORKER.pw_uid, disks.WORKER.pw_gid)
        scratch.replace(path)
        scratch.symlink_to(secret)
        scratch.replace(path)


def swap_directory(path: Path, secret: Path) -> None:
    """For ever: the VM's directory, a symlink to one in which that name is the secret's."""
    directory, aside, lure = path.parent, path.parent.with_name("aside"), secret.parent / "lure"
    lure.mkdir()
    os.link(secret, lure / path.name)
    while True:
        directory.rename(aside)
        directory.symlink_to(lure)
        directory.unlink()
        aside.rename(directory)


@contextmanager
def swapping(swap: Callable[[Path, Path], None], path: Path, secret: Path) -> Iterator[None]:
    process = multiprocessing.get_context("fork").Process(target=swap, args=(path, secret), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("swap", [swap_file, swap_directory])
def test_a_swap_between_check_and_use_is_never_followed(
    host: RootHost, secret: Path, tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    work = host.paths.work_disk(disks.VM)
    outcomes = {"given": 0, "refused": 0}
    with swapping(swap, work, secret):
        deadline = time.monotonic() + SWAP_DEADLINE_S
        while (sum(outcomes.values()) < ROUNDS or not all(outcomes.values())) and time.monotonic() < deadline:
            try:
                disks.open_drives(host)
                outcomes["given"] += 1
            except BangerError:
                outcomes["refused"] += 1
    assert all(outcomes.values()), outcomes


def test_who_checks_a_name_and_then_uses_it_loses_that_race(host: RootHost, tmp_path: Path) -> None:
    secret, work = tmp_path / "lost", host.paths.work_disk(disks.VM)
    secret.write_bytes(SECRET)
    with swapping(swap_file, work, secret):
        deadline = time.monotonic() + SWAP_DEADLINE_S
        while secret.stat().st_uid == 0:
            assert time.monotonic() < deadline, "the race was never lost"
            with suppress(FileNotFoundError):
                if stat.S_ISREG(work.lstat().st_mode):
                    os.chown(work, disks.UID, disks.UID)
