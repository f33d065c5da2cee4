"""A job's log, read on from where it was read at last, from whatever host has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from banger.batch.joblog import read_lines
from banger.contracts.errors import UnavailableError

if TYPE_CHECKING:
    from banger.batch.client import BatchClient
    from banger.batch.files_left import Piece
    from banger.batch.joblog import LogLine
    from banger.batch.state import JobState


class Log:
    """The log of a job's last attempt, or of a given one. Redis may be away for ``away_s`` seconds."""

    def __init__(
        self,
        batches: BatchClient,
        batch: str,
        index: int,
        attempt: int | None = None,
        *,
        away_s: float | None = None,
    ) -> None:
        from banger.batch.patience import AWAY_S

        self._batches = batches
        self._batch = batch
        self._index = index
        self._given = attempt
        self._attempt = attempt or 0
        self._offset = 0
        self._away_s = AWAY_S if away_s is None else away_s
        self.there = False

    def job(self) -> JobState:
        """Return how the job stands."""
        from banger.batch.patience import patiently

        return patiently(lambda: self._batches.store.job(self._batch, self._index), self._away_s)

    def over(self, job: JobState) -> bool:
        """Tell whether nothing comes any more."""
        if self._given is None or self._given > job.attempt:
            return job.state == "ended"
        return job.attempts[self._given - 1].ended_at is not None

    def news(self, job: JobState) -> Iterator[LogLine]:
        """Yield the whole lines that came since; of a new attempt, after what was left of the one before.

        NotFoundError where the job has not begun, UnavailableError where its host does not answer.
        """
        if self._given is None and self._attempt != job.attempt:
            if self._attempt:
                yield from self._rest(job)
                typer.echo(f"banger: attempt {job.attempt} begins", err=True)
            self._attempt, self._offset = job.attempt, 0
        yield from self._lines(job)

    def _rest(self, job: JobState) -> Iterator[LogLine]:
        """Yield what was left of an attempt that is over: maybe since its host is gone."""
        from banger.connection import is_away

        try:
            yield from self._lines(job)
        except UnavailableError as error:
            if is_away(error):
                raise
            typer.echo(f"banger: the end of attempt {self._attempt} is missing: {error.brief}", err=True)

    def _lines(self, job: JobState) -> Iterator[LogLine]:
        from banger.batch.patience import patiently

        def ask() -> Piece:
            attempt = self._attempt or None
            return self._batches.piece(job, self._batch, "output.log", self._offset, attempt=attempt)

        while True:
            piece = patiently(ask, self._away_s)
            self.there |= piece.size is not None
            whole = piece.data.rfind(b"\n") + 1
            if not whole:
                return
            self._offset += whole
            yield from read_lines(piece.data[:whole])
