"""A batch on a terminal: a row a job while they fit, else those at work and those that went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import rich.live
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from banger.batch.state import Verdict
from banger.batch.verdict import describe, took_s
from banger.cli.batch.board import Board, counted
from banger.cli.batch.clock import Clock
from banger.cli.failure import printable
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from banger.batch.state import JobState

_REFRESHES_A_SECOND = 4  # guests that boot under emulation need the processor more than we do
_OTHER_LINES = 5  # of the screen, beside the rows: two of head, the heading, one of foot, the cursor's
_BAR_WIDTH = 30
_STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.TIMED_OUT: "bold red",
    Verdict.INFRA_ERROR: "magenta",
    Verdict.CANCELLED: "yellow",
}


class _Column(NamedTuple):
    heading: str
    justify: Literal["left", "right"] = "left"
    words: bool = False


_COLUMNS = (
    _Column("JOB", "right"),
    _Column("WHAT", words=True),
    _Column("HOST"),
    _Column("TRY", "right"),
    _Column("TIME", "right"),
    _Column("LEFT", "right"),
    _Column("STATE", words=True),
)


def rows(board: Board, room: int) -> list[JobState]:
    """Return the jobs to show: all in order where there is room, else those at work, then what went wrong."""
    if len(board.jobs) <= room:
        return [board.jobs[index] for index in sorted(board.jobs)]
    return [*board.at_work(), *board.wrong()][: max(0, room)]


class BatchLive:
    """Shows a batch in place. What it shows last stays on the screen where all of its jobs fit."""

    stages = True

    def __init__(self, board: Board, clock: Clock, console: Console | None = None) -> None:
        self._board = board
        self._clock = clock
        self._console = console or Console(stderr=True, highlight=False)
        self._live = rich.live.Live(
            get_renderable=self.screen,
            console=self._console,
            refresh_per_second=_REFRESHES_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.transient = len(self._board.jobs) > self._room()
        self._live.stop()

    def change(self, old: JobState, new: JobState) -> None:
        """Show nothing at once: the screen is drawn anew before long."""

    def tick(self) -> None:
        """Show nothing either."""

    def note(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(Text(printable(text)))

    def screen(self) -> RenderableType:
        """Return what is to be seen now."""
        now, shown = self._clock.now(), rows(self._board, self._room())
        return Group(self._head(now), self._progress(now), *self._table(shown, now), *self._foot(shown))

    def _room(self) -> int:
        return self._console.size.height - _OTHER_LINES

    def _head(self, now: float) -> RenderableType:
        info = self._board.info
        ended_at = info.ended_at or now
        state = "" if info.state == "running" else f"  {info.state}"
        return Text.assemble(
            "batch ",
            (info.name, "bold"),
            f" {info.id}  image {info.image}  {format_duration(max(0.0, ended_at - info.created_at))}",
            (state, "yellow"),
            ("  Redis is away; the batch goes on meanwhile" if self._board.away else "", "red"),
            no_wrap=True,
            overflow="ellipsis",
        )

    def _progress(self, now: float) -> RenderableType:
        board = self._board
        bar = ProgressBar(
            total=max(1, board.info.total),
            completed=board.done,
            width=_BAR_WIDTH,
            complete_style="red" if board.wrong() else "green",
            finished_style="red" if board.wrong() else "green",
        )
        left = _roughly(board.batch_left_s(now))
        words = [f"{board.done}/{board.info.total}  {counted(board.counts())}"]
        words += [f"about {left} left"] if left else []
        line = Table.grid(padding=(0, 2))
        line.add_column(width=_BAR_WIDTH)
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(
            bar,
            _line(", ".join(words)),
        )
        return line

    def _table(self, shown: Sequence[JobState], now: float) -> list[RenderableType]:
        if not shown:
            return []
        named = any(job.title != f"job {job.index}" for job in shown)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
        for column in _COLUMNS:
            if column.heading != "WHAT" or named:
                # Where it gets narrow, words give way and numbers stay: only what may wrap is made narrower.
                table.add_column(column.heading, justify=column.justify, no_wrap=not column.words)
        for job in shown:
            jobs, what, *more = self._cells(job, now)
            table.add_row(jobs, *((what,) if named else ()), *more)
        return [table]

    def _cells(self, job: JobState, now: float) -> tuple[RenderableType, ...]:
        elapsed = took_s(job)
        if elapsed is None and job.began_at is not None:
            elapsed = max(0.0, now - job.began_at)
        left_s = self._board.left_s(job, now)
        return (
            str(job.index),
            _line(job.title),
            job.host or "",
            str(job.attempt) if job.attempt > 1 else "",
            "" if elapsed is None else format_duration(elapsed),
            Text(_roughly(left_s), "dim"),
            self._state(job),
        )

    def _state(self, job: JobState) -> Text:
        if job.verdict is not None:
            return _line(describe(job), _STYLES[job.verdict])
        if job.state == "waiting":
            return _line("waiting", "dim")
        return _line(self._board.stage(job) or str(job.state), "cyan")

    def _foot(self, shown: Sequence[JobState]) -> list[RenderableType]:
        board, counts = self._board, self._board.counts()
        words = []
        if len(shown) < len(board.jobs):
            seen = {job.index for job in shown}
            hidden = sum(job.index not in seen for job in board.at_work())
            words += [f"{hidden} more at work"] * bool(hidden)
            hidden = sum(job.index not in seen for job in board.wrong())
            words += [f"{hidden} more that did not pass"] * bool(hidden)
        if counts["waiting"] and board.info.why:
            words.append(f"the next one waits: {board.info.why}")
        text = "; ".join(words)
        return [_line(text, "dim")] if text else []


def _line(text: str, style: str = "") -> Text:
    """Return a text of one line, which is cut where it is too long."""
    return Text(printable(text), style, no_wrap=True, overflow="ellipsis")


def _roughly(seconds: float | None) -> str:
    """Return a duration to the second; "" where it is not known, or over already."""
    if seconds is None or seconds < 1:
        return ""
    return format_duration(round(seconds)).replace(".0s", "s")
