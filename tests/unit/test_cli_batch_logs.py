"""``banger batch logs``: whole lines, from the attempt that is meant, and nothing that steers a terminal."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from played_batches import BATCH, attempt, batch_session, batches_of, job

from banger.batch import patience
from banger.cli import main
from banger.cli.batch import logs as batch_logs
from banger.cli.session import Session
from banger.contracts.errors import UnavailableError

AT = "2026-11-28T16:31:05.123Z"
LOG = f"{AT} O one\n{AT} E two\n{AT} N it was cut off\n".encode()
HOSTILE = f"{AT} O \x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x9b2K\x08\u2028\r\x1b[>4;2mx\n".encode()


@pytest.fixture
def made(tmp_path: Path) -> Session:
    tried = (attempt(1, verdict="infra_error"), attempt(2, vm="c" * 12, host="far"))
    made = batch_session(tmp_path, job(0, attempts=tried))
    host = batches_of(made).host
    host.files[0, 1, "output.log"] = f"{AT} O first try\n".encode()
    host.files[0, 2, "output.log"] = LOG
    return made


def logs(made: Session, *words: str) -> int:
    return main(["batch", "logs", "last", "0", *words], made)


def test_both_streams_come_as_they_came_and_notes_apart(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert logs(made) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("one\ntwo\n", "banger: it was cut off\n")
    assert batches_of(made).host.asked[0][0] == "far"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--stdout-only"], "one\n"),
        (["--stderr-only"], "two\n"),
        (["-n", "2"], "two\n"),
        (["--timestamps", "--stdout-only"], f"{AT} one\n"),
        (["--attempt", "1"], "first try\n"),
    ],
)
def test_what_is_wanted_of_it(
    words: list[str], printed: str, made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert logs(made, *words) == 0
    assert capsys.readouterr().out == printed


def test_a_long_log_comes_in_pieces_whole(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"line {n} " + "x" * (n % 300) for n in range(200)]
    batches_of(made).host.files[0, 2, "output.log"] = "".join(f"{AT} O {line}\n" for line in lines).encode()
    assert logs(made) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_json_is_a_line_each(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert logs(made, "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["at"], one["stream"], one["text"]) for one in told] == [
        (AT, "stdout", "one"),
        (AT, "stderr", "two"),
        (AT, "note", "it was cut off"),
    ]


@pytest.mark.parametrize(
    ("terminal", "shown"), [(True, "\x1b[31mred\x1b[0m2K[>4;2mx\x1b[0m\n"), (False, "red2K[>4;2mx\n")]
)
def test_a_guest_steers_no_terminal_and_colours_none_of_what_follows(
    terminal: bool, shown: str, made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(made).host.files[0, 2, "output.log"] = HOSTILE + b"\xff\xfe no line of ours\n"

    class Out(io.TextIOWrapper):
        def isatty(self) -> bool:
            return terminal

    out = Out(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    assert logs(made) == 0
    out.seek(0)
    assert out.buffer.read().decode() == shown


def test_following_goes_on_through_a_new_attempt_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = {"state": "running", "verdict": None, "ended_at": None}
    waiting = job(0, state="waiting", verdict=None, attempts=(), job=None, vm=None, ended_at=None)
    first = job(0, attempts=(attempt(1, ended_at=None),), **running)
    second = job(0, attempts=(attempt(1), attempt(2, ended_at=None)), **running)
    made = batch_session(tmp_path, waiting, state="running")
    batches = batches_of(made)
    files, states = batches.host.files, batches.store.states
    log = "output.log"

    def grow(n: int, data: bytes) -> None:
        files[0, n, log] = files.get((0, n, log), b"") + data

    def change(state: object) -> None:
        states[BATCH] = [state]  # type: ignore[list-item]

    happenings = iter(
        [
            lambda: change(first),
            lambda: grow(1, f"{AT} O one\n{AT} O tw".encode()),
            lambda: grow(1, b"o\n"),
            lambda: (grow(1, f"{AT} O three\n".encode()), change(second)),
            lambda: grow(2, f"{AT} O again\n".encode()),
            lambda: (grow(2, f"{AT} O end\n".encode()), change(job(0, attempts=(attempt(1), attempt(2))))),
        ]
    )
    monkeypatch.setattr(batch_logs.time, "sleep", lambda _s: next(happenings)())
    assert logs(made, "-f") == 0
    captured = capsys.readouterr()
    assert captured.out == "one\ntwo\nthree\nagain\nend\n"
    assert captured.err == "banger: attempt 2 begins\n"


def test_following_waits_for_a_redis_that_is_restarted(
    made: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = iter([True, True])

    def answer() -> None:
        if next(away, False):
            raise UnavailableError("Redis cannot be reached")

    monkeypatch.setattr(patience, "is_away", lambda _error: True)
    monkeypatch.setattr(patience, "_PAUSE_S", 0.0)
    batches_of(made).host.before_answer = answer
    assert logs(made, "-f") == 0
    assert capsys.readouterr().out == "one\ntwo\n"


def test_a_job_that_has_printed_nothing_says_how_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = job(0, verdict="infra_error", exit_code=None, stage="launch", reason="no room")
    assert logs(batch_session(tmp_path, failed)) == 0
    assert capsys.readouterr() == (
        "",
        "banger: there is no output of it; it is infrastructure error: launch: no room\n",
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--attempt", "3"], "has no attempt 3\n  it has 2\n"),
        (["--stdout-only", "--stderr-only"], "leave nothing"),
    ],
)
def test_what_there_is_not_is_refused(
    words: list[str], complaint: str, made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert logs(made, *words) == 2
    assert complaint in capsys.readouterr().err


def test_a_job_that_has_not_begun_has_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = job(0, state="waiting", verdict=None, attempts=(), job=None, vm=None, ended_at=None)
    assert logs(batch_session(tmp_path, waiting, state="running")) == 2
    assert "has run nowhere yet\n  it is waiting\n" in capsys.readouterr().err
