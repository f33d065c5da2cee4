"""From an argv to an exit code: help, errors, what was not foreseen, completion."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from cli_farm import session
from farm_facts import host, record
from typer.main import get_command

from banger.cli import completion, main
from banger.cli.app import app
from banger.cli.session import Session
from banger.contracts.errors import (
    BangerError,
    CapacityError,
    ConflictError,
    InvalidInputError,
    StageFailedError,
    UnavailableError,
)


def _commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
        return
    for name, below in inner.items():
        yield from _commands(below, (*path, name))


ALL = sorted(_commands(get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_examples(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--help"]) == 0
    said = capsys.readouterr().out
    assert "Examples:" in said
    assert "{" not in said.partition("\n")[0]


@pytest.mark.parametrize("argv", [[], ["vm"], ["image"]])
def test_without_a_command_there_is_help_and_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().out.startswith("Usage: banger")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["frobnicate"], "banger: no such command 'frobnicate'"),
        (["vm", "list", "--frob"], "banger: no such option: --frob"),
        (["vm", "create"], "banger: missing argument 'NAME'"),
        (["vm", "create", "dev", "--vcpus", "many"], "banger: invalid value for '--vcpus'"),
        (["vm", "list", "--state", "asleep"], "banger: invalid value for '--state': 'asleep' is not one of"),
    ],
)
def test_a_command_line_that_is_wrong_ends_with_2_and_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(said)
    assert "--help`" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StageFailedError("x"), 1),
        (InvalidInputError("x"), 2),
        (ConflictError("x"), 2),
        (CapacityError("x"), 2),
        (UnavailableError("x"), 3),
    ],
)
def test_an_error_has_its_class_exit_code(
    error: BangerError, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vm", "list"], _failing(tmp_path, error)) == code


def test_an_error_says_what_why_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = BangerError("it broke", details="line one\nline two", resolution="Mend it.")
    assert main(["vm", "list"], _failing(tmp_path, error)) == 1
    assert capsys.readouterr().err == "banger: it broke\n  line one\n  line two\n  Mend it.\n"


def test_what_a_guest_said_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["vm", "list"], _failing(tmp_path, BangerError("x", details="a\x1b]0;owned\x07b")))
    assert "\x1b" not in capsys.readouterr().err


def test_what_nobody_foresaw_is_one_line_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vm", "list"], _failing(tmp_path, ZeroDivisionError("by nought"))) == 1
    said = capsys.readouterr().err
    assert said.startswith("banger: internal error: ZeroDivisionError: by nought\n")
    assert "Traceback" not in said
    assert "BANGER_DEBUG=1" in said


def test_with_debug_set_there_is_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANGER_DEBUG", "1")
    main(["vm", "list"], _failing(tmp_path, ZeroDivisionError("by nought")))
    assert "Traceback" in capsys.readouterr().err


def test_what_this_user_may_not_open_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "list"], _failing(tmp_path, PermissionError(13, "Permission denied", "/a/b"))) == 1
    said = capsys.readouterr().err
    assert said.startswith("banger: this user may not open /a/b\n  Run banger with sudo, or mend")


def test_a_disk_without_room_is_no_defect(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "list"], _failing(tmp_path, OSError(28, "No space left on device", "/a/b"))) == 1
    said = capfd.readouterr().err
    assert said == "banger: /a/b cannot be written: No space left on device\n  Make room on that disk.\n"


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    assert main(["vm", "list"], _failing(tmp_path, KeyboardInterrupt())) == 130


def _failing(tmp_path: Path, error: BaseException) -> Session:
    made = session(tmp_path)

    def fail() -> None:
        raise error

    made.farm.list = fail  # type: ignore[assignment]
    return made


def _complete(words: str, made: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_BANGER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    with pytest.raises(SystemExit) as ended:
        main([], made)
    assert ended.value.code == 0


def test_the_shell_completes_vms_and_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = session(tmp_path, record(name="web"), record(name="dev"))
    made.farm.known_hosts = [host()]  # type: ignore[attr-defined]
    _complete("banger vm show ", made, monkeypatch)
    assert capsys.readouterr().out.split() == ["dev", "web"]
    _complete("banger vm show w", made, monkeypatch)
    assert capsys.readouterr().out.split() == ["web"]
    _complete("banger vm create x --image ", made, monkeypatch)
    assert capsys.readouterr().out.split() == ["micro"]


def test_completion_without_a_farm_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _complete("banger vm show ", _failing(tmp_path, UnavailableError("no Redis")), monkeypatch)
    captured = capsys.readouterr()
    assert (captured.out.strip(), captured.err) == ("", "")


def test_completion_does_not_wait_for_a_farm_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = session(tmp_path)
    made.farm.list = lambda: time.sleep(5)  # type: ignore[assignment]
    monkeypatch.setattr(completion, "DEADLINE_S", 0.05)
    started = time.monotonic()
    context = typer.Context(get_command(app), obj=made)
    assert completion.vm_names(context) == []
    assert time.monotonic() - started < 2
