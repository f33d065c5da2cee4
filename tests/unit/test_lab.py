"""The lab's own tool: what it takes for a host's name, and what its cache is known by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab import __main__ as tool
from lab import guards, qemu, recipe
from lab.connection import Connection, LabError
from lab.machine import Machine

CRAMPED = guards.cramped


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guards, "missing", lambda: None)
    monkeypatch.setattr(guards, "cramped", lambda: None)
    monkeypatch.setattr(tool, "RUN_DIR", tmp_path / "lab")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "A", "-x"])
@pytest.mark.parametrize("verb", ["--up", "--down", "--install"])
def test_what_is_no_name_is_nobodys_directory(
    verb: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    assert tool.main([verb, name]) == 1
    assert f"{name!r} is no name of a host" in capsys.readouterr().err
    assert (tmp_path / "x").is_dir()


@pytest.mark.parametrize("words", [["--up"], ["--down", "a", "b"], ["--put", "a", "b"], ["--list", "a"]])
def test_words_that_are_missing_or_too_many_are_told(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(words) == 1
    assert "scripts/lab --help" in capsys.readouterr().err


def test_a_host_that_was_left_half_made_can_be_forgotten(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir(mode=0o700)
    (tmp_path / "lab/half").mkdir()
    Connection(tmp_path / "lab/half").close()
    assert tool.main(["--down", "half"]) == 0
    assert not (tmp_path / "lab/half").exists()


def open_to_others(place: Path) -> None:
    place.mkdir(mode=0o755)


def a_link(place: Path) -> None:
    place.with_name("elsewhere").mkdir(mode=0o700)
    place.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [open_to_others, a_link, Path.touch])
@pytest.mark.parametrize("words", [["--list"], ["--ssh", "a"], ["--up", "a"], ["-k", "nothing"]])
def test_a_directory_of_hosts_that_others_may_have_made_is_refused(
    make: Callable[[Path], None], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "lab")
    assert tool.main(words) == 1
    assert "is not a directory of ours" in capsys.readouterr().err


def test_nor_does_a_host_start_in_it(tmp_path: Path) -> None:
    open_to_others(tmp_path / "lab")
    with pytest.raises(LabError, match="not a directory of ours"):
        Machine(tmp_path / "lab/suite-1").start(tmp_path, images=None, detached=False)
    assert not list((tmp_path / "lab").iterdir())


def test_what_a_kernel_said_when_it_panicked_is_told_and_not_what_the_next_one_says(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    assert host.panic() == ""
    (tmp_path / "serial.log").write_text("[ 1.0] well\n")
    assert host.panic() == ""
    panicked = "[ 9.0] BUG: why\n[ 9.1] Kernel panic - not syncing: so\n"
    (tmp_path / "serial.log").write_text(f"{panicked}{'[ 0.1] the next boot' * 1000}")
    assert host.panic().startswith(panicked)
    assert len(host.panic()) < 500


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        ([(0, "well")], 0),
        ([(1, "well")], 1),
        ([(2, "Kernel panic - not syncing: so")], 2),
        ([(1, "Kernel panic - not syncing: so"), (0, "well")], 0),
        ([(1, "Kernel panic - not syncing: so"), (1, "well")], 1),
        ([(1, "Kernel panic - not syncing: so"), (1, "Kernel panic - not syncing: so")], 1),
    ],
)
def test_the_suite_runs_once_more_where_the_kernel_panicked_and_for_nothing_else(
    runs: list[tuple[int, str]], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_come = list(runs)

    def run(*_: object) -> int:
        assert not list(tool.EVIDENCE.iterdir())
        ended, said = to_come.pop(0)
        (tool.EVIDENCE / "serial.log").write_text(said)
        return ended

    monkeypatch.setattr(tool, "_pytest", run)
    monkeypatch.setattr(tool, "EVIDENCE", tmp_path / "lab")
    monkeypatch.setattr(tool, "FIRST_EVIDENCE", tmp_path / "lab-panicked")
    assert (tool.suite(), to_come) == (code, [])
    assert (tmp_path / "lab/serial.log").read_text() == runs[-1][1]
    assert (tmp_path / "lab-panicked/serial.log").exists() is (len(runs) == 2)


@pytest.mark.parametrize("mib", [qemu.MEMORY_MIB, qemu.MEMORY_MIB + guards.SPARE_MEMORY_MIB])
def test_a_machine_without_the_memory_for_a_host_says_so(
    mib: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {mib * 1024} kB\n")
    monkeypatch.setattr(guards, "MEMORY", tmp_path / "meminfo")
    assert ("of memory are available" in (CRAMPED() or "")) is (mib == qemu.MEMORY_MIB)


@pytest.mark.parametrize(
    ("words", "boots"), [(["--list"], False), (["--down", "a"], False), (["--up", "a"], True)]
)
def test_what_boots_no_host_needs_no_room_for_one(
    words: list[str], boots: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guards, "cramped", lambda: "too little")
    assert tool.main(words) == 0
    assert ("skipped: too little" in capsys.readouterr().err) is boots


@pytest.mark.parametrize("file", ["tests/lab/debian.py", "banger/images/initrd.py", "banger/images/apt.py"])
def test_other_code_makes_another_debian_and_another_disk(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.debian_digest(), recipe.host_digest()
    read = Path.read_bytes
    changed = recipe.ROOT / file
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == changed))
    after = recipe.debian_digest(), recipe.host_digest()
    assert before[0] != after[0]
    assert before[1] != after[1]
