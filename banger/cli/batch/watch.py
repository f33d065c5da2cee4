"""Watch a batch to its end: show it, fetch what its jobs leave as they end, then tell the verdict."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import typer

from banger.batch.ending import Ending
from banger.batch.patience import Following, patiently
from banger.cli.batch.board import Board
from banger.cli.batch.clock import Clock
from banger.cli.batch.output import JobOutput
from banger.cli.batch.report import report
from banger.cli.batch.stages import stages_noted
from banger.cli.batch.view import batch_view
from banger.connection import is_away
from banger.contracts.errors import UnavailableError

if TYPE_CHECKING:
    from banger.batch.outputs import Outputs
    from banger.batch.state import JobState
    from banger.cli.batch.interrupt import Stopping
    from banger.cli.batch.seen import Seen
    from banger.cli.session import Session
    from banger.farm import Farm

_LOOK_S = 1.0


class Shown(NamedTuple):
    """What is shown of a batch; ``follow`` is the index of the job whose output is."""

    quiet: bool = False
    as_json: bool = False
    follow: int | None = None


def watch(
    farm: Farm,
    seen: Seen,
    outputs: Outputs,
    shown: Shown,
    stopping: Stopping | None = None,
) -> int:
    """Show a batch to its end, tell the verdict, and return the exit code that it has.

    ``seen`` is what is known of it; ``stopping`` is who hears Ctrl-C, where that cancels the batch.
    """
    info = seen.info
    batches = farm.batches
    with Ending(batches, info, outputs) as ending:
        if info.state != "ended":
            with _told_if_unread(info.id):
                _Watch(farm, seen, ending, shown).to_end(seen.after, stopping)
        info = patiently(lambda: batches.store.find(info.id))
        jobs = patiently(lambda: batches.store.jobs(info.id))
        for job in jobs:
            ending.take(job)
        if seen.info.state == "ended" and shown.follow is not None:
            JobOutput(batches, info.id, shown.follow, as_json=shown.as_json).print_news(jobs[shown.follow])
        interrupted = stopping is not None and stopping.ended()
        return report(info, jobs, ending, as_json=shown.as_json, interrupted=interrupted)


@contextlib.contextmanager
def _told_if_unread(batch: str) -> Iterator[None]:
    """Where nobody reads our output any more (``| head``), say that the batch goes on without us."""
    try:
        yield
    except BrokenPipeError:
        typer.echo(f"nobody reads on; the batch goes on: `banger batch attach {batch}` shows it", err=True)
        raise BrokenPipeError from None  # without a number: by that click would end us with 1, a red job's


def look_on(session: Session, seen: Seen, outputs: Outputs, shown: Shown) -> int:
    """Watch a batch that goes on whether we do or not: Ctrl-C leaves it, and says how to come back."""
    batch = seen.info.id
    try:
        return watch(session.farm, seen, outputs, shown)
    except KeyboardInterrupt:
        typer.echo(
            f"leaving; the batch goes on: `banger batch attach {batch}` shows it again, "
            f"`banger batch cancel {batch}` stops it",
            err=True,
        )
        raise


class _Watch:
    """A batch that goes on."""

    def __init__(self, farm: Farm, seen: Seen, ending: Ending, shown: Shown) -> None:
        info = seen.info
        self._farm = farm
        self._batches = farm.batches
        self._ending = ending
        self._shown = shown
        self._clock = Clock()
        self._board = Board(info, seen.jobs, patiently(lambda: farm.batches.store.times(info.name)))
        self._view = batch_view(self._board, self._clock, quiet=shown.quiet, table=shown.follow is None)
        self._output = (
            None
            if shown.follow is None
            else JobOutput(farm.batches, info.id, shown.follow, as_json=shown.as_json)
        )

    def to_end(self, after: str, stopping: Stopping | None) -> None:
        """Show what comes after this event, to the end."""
        batch = self._board.info.id
        following = Following(self._batches, batch, after)
        looked = time.monotonic()
        for job in self._board.jobs.values():
            if job.state == "ended":
                self._ending.take(job)
        noted = stages_noted(self._farm, self._board) if self._view.stages else contextlib.nullcontext()
        with self._view as view, noted:
            if stopping is not None:
                stopping.heard_at(view.note)
            for change in following.changes():
                self._board.away = following.away
                if change is not None:
                    self._clock.heard(change.id)
                if change is not None and change.job is not None:
                    self._take(change.job)
                if time.monotonic() - looked > _LOOK_S and not following.away:
                    with _unless_away():
                        self._board.info = self._batches.store.get(batch) or self._board.info
                    looked = time.monotonic()
                view.tick()
                self._print_output()
            with _unless_away():
                self._board.info = self._batches.store.get(batch) or self._board.info
            self._print_output(last=True)

    def _take(self, job: JobState) -> None:
        old = self._board.jobs[job.index]
        self._board.take(job)
        if job.state == "ended":
            self._ending.take(job)
        self._view.change(old, job)

    def _print_output(self, *, last: bool = False) -> None:
        if self._output is not None and self._shown.follow is not None:
            self._output.print_news(self._board.jobs[self._shown.follow], last=last)


@contextlib.contextmanager
def _unless_away() -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        if not is_away(error):
            raise
