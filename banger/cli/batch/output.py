"""What a job prints, while it prints it: its log, read from the host where it runs, as it grows."""

from __future__ import annotations

import os
import secrets
import sys
import time
from typing import TYPE_CHECKING

import typer

from banger.batch.annotations import github_fence
from banger.batch.joblog import printed_line, read_lines
from banger.contracts.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from banger.batch.client import BatchClient
    from banger.batch.state import JobState

_LOOK_S = 0.5  # each look is an order to the job's host


class JobOutput:
    """Prints a job's output from where it was at last; every attempt from its beginning."""

    def __init__(self, batches: BatchClient, batch: str, *, as_json: bool = False) -> None:
        self._batches = batches
        self._batch = batch
        self._err = as_json
        self._colours = (sys.stderr if as_json else sys.stdout).isatty()
        self._attempt = 0
        self._offset = 0
        self._looked = 0.0
        self._over = False

    def print_news(self, job: JobState, *, last: bool = False) -> None:
        """Print what has come since the last look; the ``last`` one looks in any case."""
        if not job.attempts or job.attempts[-1].host is None:
            return
        if job.attempt != self._attempt:
            self._attempt, self._offset, self._over = job.attempt, 0, False
        if self._over or (not last and time.monotonic() - self._looked < _LOOK_S):
            return
        ended = job.state == "ended"  # before the look: what comes after it has nothing to add
        try:
            while self._print_piece(job):
                pass
        except NotFoundError:
            pass  # it has printed nothing yet
        except UnavailableError:
            return  # its host, or Redis, is away; the next look goes on
        finally:
            self._looked = time.monotonic()
        self._over = ended

    def _print_piece(self, job: JobState) -> bool:
        piece = self._batches.piece(job, self._batch, "output.log", self._offset)
        whole = piece.data.rfind(b"\n") + 1
        if not whole:
            return False
        self._offset += whole
        fence = github_fence(os.environ, secrets.token_hex(16))
        if fence:
            typer.echo(fence[0], err=self._err)
        for line in read_lines(piece.data[:whole]):
            text = printed_line(line.text, colours=self._colours)
            typer.echo(f"banger: {text}" if line.stream == "note" else text, err=self._err)
        if fence:
            typer.echo(fence[1], err=self._err)
        return True
