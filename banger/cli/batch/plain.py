"""A batch in plain lines, for what is no terminal: one for each change of a job, and no control codes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

import typer

from banger.batch.state import Verdict
from banger.batch.verdict import describe, took_s
from banger.cli.batch.board import Board, counted
from banger.cli.batch.clock import Clock
from banger.cli.failure import printable
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.batch.state import JobState

MAX_LINES = 2_000  # after which only what did not pass has a line of its own
_SILENCE_S = 60.0  # CI systems end what says nothing for long


class BatchPlain:
    """Prints lines. Without ``starts`` there are none but for jobs that did not pass."""

    stages = False

    def __init__(self, board: Board, clock: Clock, *, starts: bool = True) -> None:
        self._board = board
        self._clock = clock
        self._starts = starts
        self._lines = 0
        self._said_at = time.monotonic()
        self._away = False

    def __enter__(self) -> Self:
        info, counts = self._board.info, self._board.counts()
        if self._starts:
            jobs = "1 job" if info.total == 1 else f"{info.total} jobs"
            self.note(f"batch {info.name} {info.id}: {jobs} of image {info.image}")
        if counts["waiting"] < len(self._board.jobs):  # we come in the middle of it
            self.note(f"{self._since()}  {counted(counts)}")
        return self

    def __exit__(self, *_: object) -> None:
        return

    def change(self, old: JobState, new: JobState) -> None:
        """Print what became of a job."""
        wanted = self._starts and self._lines < MAX_LINES
        if new.state == "running" and old.state != "running":
            if wanted:
                again = f", attempt {new.attempt}" if new.attempt > 1 else ""
                self._say(new, f"begun on {new.host}{again}")
        elif new.state == "ended":
            if wanted or new.verdict is not Verdict.PASSED:
                took = took_s(new)
                self._say(new, describe(new) + (f", {format_duration(took)}" if took is not None else ""))
        elif new.state == "waiting" and new.attempts and old.state != "waiting":
            last = new.attempts[-1]
            ended = new.model_copy(
                update=last.model_dump(include={"verdict", "exit_code", "stage", "reason"})
            )
            if self._lines < MAX_LINES:
                self._say(new, f"{describe(ended)}; it is tried again")

    def tick(self) -> None:
        """Say how far it is, where nothing was said for long."""
        if self._board.away is not self._away:
            self._away = self._board.away
            self.note("Redis is away; the batch goes on meanwhile" if self._away else "Redis is back")
        if time.monotonic() - self._said_at > _SILENCE_S:
            why = f" ({self._board.info.why})" if self._board.info.why else ""
            self.note(f"{self._since()}  {counted(self._board.counts())}{why}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._said_at = time.monotonic()
        typer.echo(printable(text), err=True)

    def _say(self, job: JobState, text: str) -> None:
        self._lines += 1
        title = "" if job.title == f"job {job.index}" else f" {job.title}"
        done = f"  [{self._board.done}/{self._board.info.total}]" if job.state == "ended" else ""
        self.note(f"{self._since()}  job {job.index}{title}: {text}{done}")

    def _since(self) -> str:
        seconds = max(0, int(self._clock.now() - self._board.info.created_at))
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
