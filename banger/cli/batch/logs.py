"""``banger batch logs``: what a job printed, from whatever host has it, or while it prints it."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from banger.batch.joblog import printed_line
from banger.cli.batch.log import Log
from banger.cli.batch.refs import BatchJob, BatchRef, find_job
from banger.cli.session import session_of
from banger.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from banger.batch.joblog import LogLine

_LOOK_S = 0.5  # each look is an order to the job's host


def logs(
    ctx: typer.Context,
    batch: BatchRef,
    job: BatchJob,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended, or Ctrl-C.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, metavar="N", help="Only the last N lines.")
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", "-t", help="Begin each line with its time, in UTC.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, metavar="N", help="Of this attempt, not the last one.")
    ] = None,
    stdout_only: Annotated[bool, typer.Option("--stdout-only", help="Only what went to stdout.")] = False,
    stderr_only: Annotated[bool, typer.Option("--stderr-only", help="Only what went to stderr.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON each.")] = False,
) -> int:
    """Print what a job's setup and run commands printed.

    Both of its streams come on stdout, line by line as they came; what banger has to say of the log goes to
    stderr. Colours are left out where stdout is no terminal. With --follow, an attempt that is made anew is
    printed from its beginning.

    \b
    Examples:
      banger batch logs last 3
      banger batch logs -f unit-tests 3
      banger batch logs unit-tests 3 -n 50 --timestamps
      banger batch logs unit-tests 3 --attempt 1 --stderr-only
    """
    if stdout_only and stderr_only:
        raise InvalidInputError(
            "--stdout-only and --stderr-only leave nothing", resolution="Give one of them, or neither."
        )
    batches = session_of(ctx).farm.batches
    info = batches.store.find(batch)
    log = Log(batches, info.id, find_job(batches.store, info, job).index, attempt)
    left_out = "stderr" if stdout_only else "stdout" if stderr_only else None
    printer = _Printer(left_out, timestamps=timestamps, as_json=as_json)
    if follow:
        _follow(log, printer, lines)
    else:
        printer.write(_last(log.news(log.job()), lines))
    if not log.there:
        from banger.batch.verdict import describe

        typer.echo(f"banger: there is no output of it; it is {describe(log.job())}", err=True)
    return 0


class _Printer:
    """Writes lines to stdout as they are asked for; a guest's steer no terminal."""

    def __init__(self, left_out: str | None, *, timestamps: bool, as_json: bool) -> None:
        self._left_out = left_out
        self._timestamps = timestamps
        self._as_json = as_json
        self._colours = sys.stdout.isatty()

    def write(self, lines: Iterable[LogLine]) -> None:
        """Write lines, and whatever is held back."""
        out = sys.stdout.buffer
        for line in lines:
            if line.stream == self._left_out:
                continue
            if line.stream == "note" and not self._as_json:
                out.flush()
                typer.echo(f"banger: {self._text(line)}", err=True)
            else:
                out.write(f"{self._text(line)}\n".encode())
        out.flush()

    def _text(self, line: LogLine) -> str:
        at = f"{line.at:%Y-%m-%dT%H:%M:%S}.{line.at.microsecond // 1000:03}Z"
        if self._as_json:
            return json.dumps({"at": at, "stream": line.stream, "text": line.text})
        text = printed_line(line.text, colours=self._colours)
        return f"{at} {text}" if self._timestamps else text


def _follow(log: Log, printer: _Printer, lines: int | None) -> None:
    """Print what there is, or the last ``lines`` lines of it, then what comes, to the end."""
    while True:
        job = log.job()  # before its log: what comes after an end has nothing to add
        over = log.over(job)
        if job.attempts and job.attempts[-1].host is not None:
            printer.write(_last(log.news(job), lines))
            lines = None
        if over:
            return
        time.sleep(_LOOK_S)


def _last(lines: Iterable[LogLine], number: int | None) -> Iterable[LogLine]:
    return lines if number is None else deque(lines, maxlen=number)
