"""A process is known by more than its pid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from root_worker.ops import process
from root_worker.ops.process import alive, identify
from root_worker.registry import Process


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of our own, with process 7 in it."""
    monkeypatch.setattr(process, "_PROC", tmp_path)
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("this-boot\n")
    (tmp_path / "7").mkdir()
    write_stat(tmp_path)
    return tmp_path


def write_stat(proc: Path, state: str = "S", start_ticks: int = 4711) -> None:
    between = " ".join(["0"] * 18)
    (proc / "7/stat").write_text(f"7 (a ) Z b) {state} {between} {start_ticks} 0 0\n")


def test_the_running_test_is_alive_and_itself() -> None:
    assert alive(identify(os.getpid()))


def test_a_name_with_parentheses_does_not_confuse(proc: Path) -> None:
    assert identify(7) == Process(pid=7, start_ticks=4711, boot_id="this-boot")


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_zombie_is_dead(proc: Path, state: str) -> None:
    known = identify(7)
    write_stat(proc, state)
    assert not alive(known)
    with pytest.raises(ProcessLookupError):
        identify(7)


def test_the_same_pid_started_later_is_another(proc: Path) -> None:
    known = identify(7)
    write_stat(proc, start_ticks=4712)
    assert not alive(known)


def test_nothing_outlives_a_reboot(proc: Path) -> None:
    known = identify(7)
    (proc / "sys/kernel/random/boot_id").write_text("next-boot\n")
    assert not alive(known)


def test_a_pid_that_is_gone_is_dead(proc: Path) -> None:
    assert not alive(Process(pid=8, start_ticks=4711, boot_id="this-boot"))
