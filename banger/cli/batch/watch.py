"""Watch a batch to its end: show it, fetch what its jobs leave as they end, then tell the verdict."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import typer

from banger.batch.ending import Ending
from banger.batch.patience import Following, patiently
from banger.batch.state import JobState
from banger.cli.batch.board import Board
from banger.cli.batch.clock import Clock
from banger.cli.batch.options import OURS_FAILED
from banger.cli.batch.output import JobOutput
from banger.cli.batch.report import report
from banger.cli.batch.view import batch_view
from banger.connection import is_away
from banger.contracts.errors import BangerError, UnavailableError

if TYPE_CHECKING:
    from banger.batch.client import BatchClient
    from banger.batch.expand import JobPlan
    from banger.batch.outputs import Outputs
    from banger.batch.state import BatchInfo
    from banger.cli.batch.interrupt import Stopping
    from banger.cli.session import Session
    from banger.farm import Farm

_LOOK_S = 1.0
_LOOKS = 10
_AWAY_PAUSE_S = 1.0


class Shown(NamedTuple):
    """What is shown of a batch; ``follow`` is the index of the job whose output is."""

    quiet: bool = False
    as_json: bool = False
    follow: int | None = None


class Seen(NamedTuple):
    """A batch and its jobs as they were after an event of its stream."""

    info: BatchInfo
    jobs: Sequence[JobState]
    after: str

    @classmethod
    def new(cls, info: BatchInfo, jobs: Sequence[JobPlan]) -> Seen:
        """Return a batch that has just been submitted: all of its jobs wait."""
        waiting = [JobState(index=job.index, title=job.title, matrix=job.matrix) for job in jobs]
        return cls(info, waiting, "0")

    @classmethod
    def now(cls, batches: BatchClient, batch: str) -> Seen:
        """Return a batch as it is, read anew while it changes meanwhile: else changes would be told twice."""
        store = batches.store
        for _ in range(_LOOKS):
            after = store.last_event(batch)
            seen = cls(store.find(batch), store.jobs(batch), after)
            if store.last_event(batch) == after:
                break
        return seen


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
        interrupted = stopping is not None and stopping.ended()
        return report(info, jobs, ending, as_json=shown.as_json, interrupted=interrupted)


@contextlib.contextmanager
def _told_if_unread(batch: str) -> Iterator[None]:
    """Where nobody reads our output any more (``| head``), say that the batch goes on without us."""
    try:
        yield
    except BrokenPipeError:
        typer.echo(f"nobody reads on; the batch goes on: `banger batch attach {batch}` shows it", err=True)
        raise


def look_on(session: Session, seen: Seen, outputs: Outputs, shown: Shown) -> int:
    """Watch a batch that goes on whether we do or not: Ctrl-C leaves it, and says how to come back."""
    session.failure_code = OURS_FAILED
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
            None if shown.follow is None else JobOutput(farm.batches, info.id, as_json=shown.as_json)
        )

    def to_end(self, after: str, stopping: Stopping | None) -> None:
        """Show what comes after this event, to the end."""
        batch = self._board.info.id
        following = Following(self._batches, batch, after)
        looked = time.monotonic()
        for job in self._board.jobs.values():
            if job.state == "ended":
                self._ending.take(job)
        with self._view as view, self._stages():
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
    def _stages(self) -> Iterator[None]:
        """Have the farm's events noted on the board, as long as the block lasts."""
        over = threading.Event()
        if self._view.stages:
            threading.Thread(target=self._note_stages, args=(over,), daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _note_stages(self, over: threading.Event) -> None:
        """Note events until it is over. What cannot be read is not shown: it is no more than decoration."""
        after = "$"
        for job in self._board.at_work():
            with contextlib.suppress(BangerError):
                self._board.was_at(job, self._farm.job(job.job or "").stage)
        while not over.is_set():
            try:
                for event in self._farm.events.follow(after=after):
                    if event is not None:
                        after = event.id
                        self._board.event(event)
                    if over.is_set():
                        return
            except UnavailableError:
                over.wait(_AWAY_PAUSE_S)
            except BangerError:
                return


@contextlib.contextmanager
def _unless_away() -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        if not is_away(error):
            raise
