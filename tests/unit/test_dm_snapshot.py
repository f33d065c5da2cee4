"""dm-snapshot against a recording dmsetup: what is run, in which order, and what a failure leaves."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from banger.contracts.dm_snapshot import create_args, remove_args, usage_percent
from banger.contracts.errors import StageFailedError, ToolFailedError
from root_worker.ops import dm_snapshot, loop
from root_worker.shell import Completed

VM = "0123456789ab"
NAME = f"banger-{VM}"
TABLE = "0 2048 snapshot /dev/loop0 /dev/loop1 P 8"


class Host:
    """A kernel's device-mapper and loops in memory; ``events`` records what was done, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.tables: dict[str, str] = {}
        self.status = "0 2048 snapshot 16/4096 16"
        self.failing = ""

    def run(self, argv: Sequence[str], *, deadline_s: float, good: Sequence[int] = (0,)) -> Completed:
        assert deadline_s > 0
        command = argv[1]
        if command == self.failing:
            self.events.append(f"{command} failed")
            raise ToolFailedError(f"dmsetup {command} failed")
        self.events.append(command)
        if command == "create":
            self.tables[argv[2]] = argv[-1]
        if command == "remove":
            del self.tables[argv[-1]]
        printed = {
            "info": "\n".join(self.tables),
            "table": self.tables.get(argv[-1], ""),
            "status": self.status,
        }
        return Completed(0, printed.get(command, "").encode(), b"")

    @contextmanager
    def attached(self, file: int, *, read_only: bool) -> Iterator[Path]:
        name = "origin" if read_only else "overlay"
        self.events.append(f"+{name}")
        yield Path(f"/dev/loop-{name}")
        self.events.append(f"-{name}")

    def await_node(self, vm_id: str, uid: int) -> None:
        if self.failing == "node":
            raise StageFailedError("it did not appear")
        self.events.append(f"own {vm_id} {uid}")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(dm_snapshot, "run", host.run)
    monkeypatch.setattr(dm_snapshot, "tool", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(loop, "attached", host.attached)
    monkeypatch.setattr(dm_snapshot, "_await_node", host.await_node)
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
    assert host.events == [
        *("info", "+origin", "+overlay", "create", "-overlay", "-origin"),
        *(f"own {VM} 300007", "status"),
    ]
    assert host.tables == {NAME: "0 2048 snapshot /dev/loop-origin /dev/loop-overlay P 8"}


def test_the_plan_names_owner_mode_and_a_persistent_table(host: Host) -> None:
    assert create_args(VM, 2048, Path("/dev/loop0"), Path("/dev/loop1"), 300_007) == (
        *("create", NAME, "--noudevrules", "--noudevsync"),
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
    assert host.events[:3] == ["info", "table", "remove"]
    assert " snapshot " in host.tables[NAME]


def test_a_failed_create_leaves_neither_device_nor_loop(
    host: Host, files: tuple[int, int], tmp_path: Path
) -> None:
    host.failing = "create"
    with pytest.raises(ToolFailedError):
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.tables == {}


@pytest.mark.parametrize("failing", ["node", "status"])
def test_a_failure_after_create_removes_the_device(
    host: Host, files: tuple[int, int], tmp_path: Path, failing: str
) -> None:
    host.failing = failing
    with pytest.raises((StageFailedError, ToolFailedError)):
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.tables == {}
    assert host.events[-1] == "remove"


def test_an_overflowed_overlay_is_not_attached(host: Host, files: tuple[int, int], tmp_path: Path) -> None:
    host.status = "0 2048 snapshot Invalid"
    with pytest.raises(StageFailedError, match="overflowed"):
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.tables == {}


def test_an_overlay_that_fills_up_is_logged(
    host: Host, files: tuple[int, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.status = "0 2048 snapshot 3300/4096 16"
    with caplog.at_level(logging.WARNING, logger=dm_snapshot.log.name):  # whatever others did to the root's
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert "81 % full" in caplog.text


@pytest.mark.parametrize(
    ("status", "percent"), [("0 8 snapshot 0/100 0", 0.0), ("0 8 snapshot 80/100 4", 80.0)]
)
def test_usage_is_read_from_the_status(status: str, percent: float) -> None:
    assert usage_percent(status) == percent


@pytest.mark.parametrize(
    "status", ["", "0 8 snapshot Invalid", "0 8 snapshot Overflow", "0 8 snapshot Merge failed"]
)
def test_a_status_without_a_usage_is_an_invalid_snapshot(status: str) -> None:
    with pytest.raises(StageFailedError):
        usage_percent(status)


def test_detach_before_attach_after_it_and_twice(host: Host, files: tuple[int, int], tmp_path: Path) -> None:
    dm_snapshot.detach(VM, tmp_path / "lock")
    dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    dm_snapshot.detach(VM, tmp_path / "lock")
    dm_snapshot.detach(VM, tmp_path / "lock")
    assert host.tables == {}
    assert host.events.count("remove") == 1


def test_another_vms_device_is_left_alone(host: Host, tmp_path: Path) -> None:
    host.tables[f"{NAME}0"] = host.tables["vg-root"] = TABLE
    dm_snapshot.detach(VM, tmp_path / "lock")
    assert set(host.tables) == {f"{NAME}0", "vg-root"}


def test_a_base_of_half_a_sector_is_refused(host: Host, files: tuple[int, int], tmp_path: Path) -> None:
    os.ftruncate(files[0], 1000)
    with pytest.raises(StageFailedError, match="multiple of 512"):
        dm_snapshot.attach(VM, *files, 300_007, tmp_path / "lock")
    assert host.tables == {}
