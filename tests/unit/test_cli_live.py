"""The live view: what a terminal shows, rendered without one."""

from __future__ import annotations

import io

import pytest
from cli_farm import event
from rich.console import Console

from banger.cli.live import Live
from banger.cli.progress import Plain, stage_view


def _screen(view: Live) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=100)
    console.print(view._table())
    return [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_stage_is_at_work_until_it_has_ended() -> None:
    with Live(keep=True) as view:
        view.event(event("begun"))
        view.event(event("started", "tap", queue="banger.root.here"))
        (working,) = _screen(view)
        assert working[1:3] == ["tap", "banger.root.here"]
        view.event(event("finished", "tap", queue="banger.root.here", ms=12.0))
        assert _screen(view) == [["ok", "tap", "banger.root.here", "12ms"]]


@pytest.mark.parametrize(("kind", "word"), [("StageFailedError", "failed"), ("CancelledError", "cancelled")])
def test_a_failure_and_what_is_taken_back_have_rows_of_their_own(kind: str, word: str) -> None:
    with Live(keep=True) as view:
        view.event(event("finished", "tap", queue="q", ms=1.0))
        view.event(event("failed", "launch", queue="q", ms=2.0, error={"kind": kind, "brief": "no"}))
        view.event(event("finished", "tap", queue="q", ms=3.0, direction="undo", unwinding=True))
    assert _screen(view) == [
        ["ok", "tap", "q", "1ms"],
        [word, "launch", "q", "2ms"],
        ["ok", "undo", "tap", "q", "3ms"],
    ]


def test_a_job_that_is_refused_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Live(keep=False) as view:
        view.event(event("refused", error={"kind": "ConflictError", "brief": "no"}))
    assert capsys.readouterr().err == ""


def test_where_there_is_no_terminal_the_view_is_plain() -> None:
    assert isinstance(stage_view(), Plain)
