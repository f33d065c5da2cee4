"""dm-snapshot against a recording dmsetup: what is run, in which order, and what a failure leaves."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from banger.contracts import linux
from banger.contracts.dm_snapshot import Overlay, create_args, overlay_of, remove_args
from banger.contracts.errors import StageFailedError, ToolFailedError
from root_worker.ops import dm_snapshot, loop
from root_worker.shell import Completed

VM = "0123456789ab"
NAME = f"banger-{VM}"
TABLE = "0 2048 snapshot /dev/loop0 /dev/loop1 PO 8"


class Host:
    """A kernel's device-mapper and loops in memory; ``events`` records what was done, in order."""

    def __init__(self, nodes: Path) -> None:
        self.nodes = nodes
        self.events: list[str] = []
        self.tables: dict[str, str] = {}
        self.status = "16/4096 16"
        self.failing = ""

    def run(self, argv: Sequence[str], *, deadline_s: float, pass_fds: Sequence[int]) -> Completed:
        assert deadline_s > 0
        assert Path(f"/proc/self/fd/{pass_fds[0]}").readlink().name == "lock", "the tool holds it too"
        command = argv[1]
        if command == self.failing:
            self.events.append(f"{command} failed")
            raise ToolFailedError(f"dmsetup {command} failed")
        self.events.append(command)
        if command == "create":
            self.tables[argv[2]] = argv[-1]
        if command == "remove":
            del self.tables[argv[-1]]
        return Completed(0, b"", b"")

    def target(self, name: str) -> tuple[str, str] | None:
        if name not in self.tables:
            return None
        return ("snapshot", self.status) if self.tables[name] else ("", "")

    @contextmanager
    def attached(self, file: int, *, read_only: bool) -> Iterator[Path]:
        name = "origin" if read_only else "overlay"
        self.events.append(f"+{name}")
        yield Path(f"/dev/loop-{name}")
        self.events.append(f"-{name}")

    def own_node(self, vm_id: str, uid: int) -> None:
        if self.failing == "node":
            raise StageFailedError("it did not appear")
        self.events.append(f"own {vm_id} {uid}")

    def path(self, vm_id: str) -> Path:
        return self.nodes / ("none" if self.failing == "kill" else "node")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    monkeypatch.setattr(dm_snapshot, "run", host.run)
    monkeypatch.setattr(dm_snapshot, "_target", host.target)
    monkeypatch.setattr(dm_snapshot, "tool", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(loop, "attached", host.attached)
    monkeypatch.setattr(dm_snapshot, "_own_node", host.own_node)
    monkeypatch.setattr(dm_snapshot, "path", host.path)
    monkeypatch.setattr(Path, "is_block_device", lambda path: path.name == "node")
    return host


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    opened = []
    for name in ("base", "overlay"):
        fd = os.open(tmp_path / name, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 1024 * 1024)
        opened.append(fd)
    yield opened[0], opened[1]
    for fd in opened:
        os.close(fd)


def test_the_loops_are_ours_only_until_the_device_holds_them(
    host: Host, files: tuple[int, int], tmp_path: Path
) -> None:
    dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.events == ["+origin", "+overlay", "create", "-overlay", "-origin", f"own {VM} 300007"]
    assert host.tables == {NAME: "0 2048 snapshot /dev/loop-origin /dev/loop-overlay PO 8"}


def test_the_plan_names_owner_mode_and_a_persistent_table(host: Host) -> None:
    assert create_args(VM, 2048, Path("/dev/loop0"), Path("/dev/loop1"), 300_007) == (
        *("create", NAME, "--noudevrules", "--noudevsync", "--verifyudev"),
        *("--uid", "300007", "--gid", "300007", "--mode", "0600", "--table", TABLE),
    )
    assert remove_args(VM)[:2] == ("remove", "--retry")


def test_attaching_twice_keeps_the_device(host: Host, files: tuple[int, int], tmp_path: Path) -> None:
    dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.events.count("create") == 1


def test_a_device_that_a_kill_left_without_a_table_is_made_again(
    host: Host, files: tuple[int, int], tmp_path: Path
) -> None:
    host.tables[NAME] = ""
    dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.events[0] == "remove"
    assert " snapshot " in host.tables[NAME]


def test_a_device_that_a_kill_left_without_a_node_is_made_again(
    host: Host, files: tuple[int, int], tmp_path: Path
) -> None:
    host.tables[NAME] = TABLE
    host.failing = "kill"
    dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert [event for event in host.events if event in ("create", "remove")] == ["remove", "create"]


def test_a_failed_create_leaves_neither_device_nor_loop(
    host: Host, files: tuple[int, int], tmp_path: Path
) -> None:
    host.failing = "create"
    with pytest.raises(StageFailedError, match="made no snapshot device") as caught:
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert caught.value.details == "dmsetup create failed"
    assert "banger doctor" in caught.value.resolution
    assert host.tables == {}


def test_a_node_that_does_not_appear_removes_the_device(
    host: Host, files: tuple[int, int], tmp_path: Path
) -> None:
    host.failing = "node"
    with pytest.raises(StageFailedError):
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.tables == {}
    assert host.events[-1] == "remove"


@pytest.mark.parametrize(
    ("status", "complaint", "way_out"),
    [
        ("Invalid", "is no longer valid", "Delete the VM"),
        ("Overflow", "is full", "banger vm set NAME --system-disk SIZE"),
        ("4096/4100 16", "is full", "banger vm set NAME --system-disk SIZE"),
    ],
)
def test_an_overlay_that_no_guest_can_write_to_is_not_attached(
    host: Host, files: tuple[int, int], tmp_path: Path, status: str, complaint: str, way_out: str
) -> None:
    host.status = status
    with pytest.raises(StageFailedError, match=complaint) as caught:
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert way_out in caught.value.resolution
    assert host.tables == {}


def test_an_overlay_that_fills_up_is_logged(
    host: Host, files: tuple[int, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.status = "3300/4096 16"
    with caplog.at_level(logging.WARNING, logger=dm_snapshot.log.name):  # whatever others did to the root's
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert "81 % used" in caplog.text


@pytest.mark.parametrize(
    ("status", "percent", "state", "level"),
    [
        ("0/100 0", 0.0, "ok", ""),
        ("79/100 4", 79.0, "ok", ""),
        ("80/100 4", 80.0, "ok", "filling"),
        ("92/100 4", 92.0, "ok", "filling"),
        ("93/100 4", 93.0, "full", "full"),  # the next chunk of 8 sectors does not fit
        ("0/0 0", 100.0, "full", "full"),
        ("Overflow", 100.0, "full", "full"),
        ("Invalid", 100.0, "invalid", "invalid"),
        ("Merge failed", 100.0, "invalid", "invalid"),
        ("", 100.0, "invalid", "invalid"),
    ],
)
def test_usage_is_read_from_the_status(status: str, percent: float, state: str, level: str) -> None:
    overlay = overlay_of(status)
    assert (overlay.percent, overlay.state, overlay.level) == (percent, state, level)


def test_how_full_it_is_can_be_said() -> None:
    assert str(Overlay(percent=81.4)) == "81 % used"
    assert str(Overlay(percent=100, state="full")) == "100 % used: writes fail"


def test_the_kernel_is_asked_about_one_device_and_its_reply_is_read() -> None:
    asked = linux.dm_request("banger-x")
    assert len(asked) == 1024
    assert struct.unpack_from("=5I", asked) == (4, 0, 0, 1024, 312)
    assert asked[48:57] == b"banger-x\0"
    assert linux.dm_target(asked) == ("", "")
    struct.pack_into("=I", asked, 20, 1)
    struct.pack_into("=QQiI16s", asked, 312, 0, 2048, 0, 64, b"snapshot")
    asked[352:363] = b"16/4096 16 "
    assert linux.dm_target(asked) == ("snapshot", "16/4096 16")


def test_without_device_mapper_there_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dm_snapshot, "_MAPPER", tmp_path)
    assert dm_snapshot.usage(NAME) is None
    dm_snapshot.detach(VM, tmp_path / "lock")


def test_detach_before_attach_after_it_and_twice(host: Host, files: tuple[int, int], tmp_path: Path) -> None:
    dm_snapshot.detach(VM, tmp_path / "lock")
    dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    dm_snapshot.detach(VM, tmp_path / "lock")
    dm_snapshot.detach(VM, tmp_path / "lock")
    assert host.tables == {}
    assert host.events.count("remove") == 1


def test_a_node_that_a_kill_left_without_a_device_is_removed(host: Host, tmp_path: Path) -> None:
    node = host.path(VM)
    node.touch()
    dm_snapshot.detach(VM, tmp_path / "lock")
    assert not node.exists()


def test_another_vms_device_is_left_alone(host: Host, tmp_path: Path) -> None:
    host.tables[f"{NAME}0"] = host.tables["vg-root"] = TABLE
    dm_snapshot.detach(VM, tmp_path / "lock")
    assert set(host.tables) == {f"{NAME}0", "vg-root"}


def test_a_base_of_half_a_sector_is_refused(host: Host, files: tuple[int, int], tmp_path: Path) -> None:
    os.ftruncate(files[0], 1000)
    with pytest.raises(StageFailedError, match="multiple of 512"):
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.tables == {}
