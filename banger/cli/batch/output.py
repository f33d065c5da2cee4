"""What a job prints, while it prints it: its log, read from the host where it runs, as it grows."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from banger.batch.annotations import github_fence
from banger.batch.joblog import printed_line
from banger.cli.batch.log import Log
from banger.contracts.errors import UnavailableError

if TYPE_CHECKING:
    from banger.batch.client import BatchClient
    from banger.batch.joblog import LogLine
    from banger.batch.state import JobState

_LOOK_S = 0.5  # each look is an order to the job's host


class JobOutput:
    """Prints a job's output from where it was at last; every attempt from its beginning."""

    def __init__(self, batches: BatchClient, batch: str, index: int, *, as_json: bool = False) -> None:
        self._log = Log(batches, batch, index, away_s=0.0)  # who watches has more to do than to wait
        self._err = as_json
        self._colours = (sys.stderr if as_json else sys.stdout).isatty()
        self._looked = 0.0
        self._read = 0  # the attempt of which nothing comes any more

    def print_news(self, job: JobState, *, last: bool = False) -> None:
        """Print what has come since the last look; the ``last`` one looks in any case."""
        if not job.attempts or job.attempts[-1].host is None or job.attempt == self._read:
            return
        if not last and time.monotonic() - self._looked < _LOOK_S:
            return
        try:
            self._print(self._log.news(job))
        except UnavailableError:
            return  # its host, or Redis, is away; the next look goes on
        finally:
            self._looked = time.monotonic()
        if job.state == "ended":  # as it was before the look: what comes after an end has nothing to add
            self._read = job.attempt

    def _print(self, lines: Iterable[LogLine]) -> None:
        with contextlib.closing(_Fence(err=self._err)) as fence:
            for line in lines:
                fence.open()
                text = printed_line(line.text, colours=self._colours)
                typer.echo(f"banger: {text}" if line.stream == "note" else text, err=self._err)


class _Fence:
    """Lines around what a guest says where GitHub reads it, once it says anything."""

    def __init__(self, *, err: bool) -> None:
        self._err = err
        self._end = ""
        self._opened = False

    def open(self) -> None:
        """Begin, unless it has begun."""
        if self._opened:
            return
        self._opened = True
        if fence := github_fence(os.environ, secrets.token_hex(16)):
            typer.echo(fence[0], err=self._err)
            self._end = fence[1]

    def close(self) -> None:
        """End it, where it has begun."""
        if self._end:
            typer.echo(self._end, err=self._err)
