"""A batch's verdict as people, CI systems and programs are told it: what failed, why, and what to type."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from banger.batch.annotations import (
    append_step_outputs,
    append_step_summary,
    github_commands,
    github_fence,
    gitlab_sections,
    on_gitlab,
    step_outputs,
    step_outputs_file,
    step_summary_file,
    without_commands,
)
from banger.batch.joblog import shown_line
from banger.batch.summary import render_summary
from banger.batch.verdict import CANCELLED, INFRASTRUCTURE, WRONG, describe, exit_code, headline, took_s
from banger.cli.columns import print_json
from banger.cli.failure import printable
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.batch.ending import Ending
    from banger.batch.state import BatchInfo, JobState

MAX_TOLD = 10
_MAX_LINE = 400
_TAIL_WAIT_S = 20.0
_PATIENCE_S = 1.0


def report(
    info: BatchInfo, jobs: Sequence[JobState], ending: Ending, *, as_json: bool, interrupted: bool = False
) -> int:
    """Tell the verdict, write what is wanted, and return the exit code.

    The verdict comes first, then the jobs that did not pass, then what was written; where that is much, the
    verdict once more. With ``as_json`` stdout has one JSON document, and all that goes to stderr.
    """
    code = CANCELLED if interrupted else exit_code(job.verdict for job in jobs if job.verdict)
    said = _Said(err=as_json)
    verdict = _verdict(info)
    said.line(verdict, colour="green" if code == 0 else "red")
    wrong = [job for job in jobs if job.verdict in WRONG]
    for job in wrong[:MAX_TOLD]:
        _tell(said, info, job, ending)
    if len(wrong) > MAX_TOLD:
        said.line("")
        said.line(f"… and {len(wrong) - MAX_TOLD} more: banger batch status {info.id} --failed")
    if left := ending.left_after(_PATIENCE_S):
        said.note(f"{left} files of jobs are still to be fetched")
    problems, notes = ending.write(info, jobs)
    code = code or (INFRASTRUCTURE if problems else 0)
    notes += _tell_github(said, info, jobs, code)
    for text in (*notes, *problems):
        said.note(text)
    if wrong:
        said.line("")
        said.line(verdict, colour="red")
    if as_json:
        print_json(
            {
                "batch": info.model_dump(mode="json"),
                "jobs": [job.model_dump(mode="json") for job in jobs],
                "exit_code": code,
            }
        )
    return code


class _Said:
    """Says things on stdout, or on stderr."""

    def __init__(self, *, err: bool) -> None:
        self._err = err

    def line(self, text: str, colour: str | None = None) -> None:
        text = without_commands(os.environ, printable(text))
        typer.echo(typer.style(text, fg=colour, bold=True) if colour else text, err=self._err)

    def raw(self, text: str) -> None:
        # With what steers a terminal, though there is none: GitLab finds its sections by it.
        typer.echo(text, err=self._err, color=True)

    def note(self, text: str) -> None:
        typer.echo(without_commands(os.environ, printable(f"banger: {text}")), err=True)


def _verdict(info: BatchInfo) -> str:
    took = "" if info.ended_at is None else f", in {format_duration(info.ended_at - info.created_at)}"
    why = f" ({info.reason})" if info.reason else ""
    return f"batch {info.name} {info.id}: {headline(info)}{took}{why}"


def _tell(said: _Said, info: BatchInfo, job: JobState, ending: Ending) -> None:
    """Tell of a job that did not pass: how, where, its last words, and how to look into it."""
    tail = ending.tail(job, _TAIL_WAIT_S)
    title = "" if job.title == f"job {job.index}" else f" {job.title}"
    said.line("")
    said.line(f"job {job.index}{title}: {describe(job)}", colour="red")
    said.line(f"  {_where(job)}")
    if job.tests and job.tests.failed:
        said.line(f"  failed tests: {', '.join(job.tests.failed)}")
    if tail and on_gitlab(os.environ):
        for line in gitlab_sections(os.environ, info, [(job, tail)], now=time.time()):
            said.raw(line)
    else:
        _quote(said, tail)
    said.line(f"  banger batch logs {info.id} {job.index}")
    if job.vm_kept:
        said.line(f"  banger batch debug {info.id} {job.index}   # a shell in its VM, which is kept")


def _where(job: JobState) -> str:
    took = took_s(job)
    words = [
        f"on {job.host}" if job.host else "on no host",
        f"attempt {job.attempt}" if job.attempt > 1 else "",
        f"after {format_duration(took)}" if took is not None else "",
    ]
    return ", ".join(filter(None, words))


def _quote(said: _Said, tail: Sequence[str] | None) -> None:
    if not tail:
        said.line("  (it printed nothing)" if tail is not None else "  (its log has not come)")
        return
    fence = github_fence(os.environ, secrets.token_hex(16))
    if fence:
        said.raw(fence[0])
    for line in tail:
        text = shown_line(line, colours=False)
        said.line(f"  | {text if len(text) <= _MAX_LINE else text[:_MAX_LINE] + '…'}")
    if fence:
        said.raw(fence[1])


def _tell_github(said: _Said, info: BatchInfo, jobs: Sequence[JobState], code: int) -> list[str]:
    """Annotate the workflow's run, and give the step its summary and outputs; return notes."""
    for line in github_commands(os.environ, info, jobs):
        said.raw(line)
    notes = []
    if (path := step_summary_file(os.environ)) is not None:
        try:
            if not append_step_summary(path, render_summary(info, jobs)):
                notes.append("the step's summary is full already")
        except OSError as error:
            notes.append(f"the step's summary could not be written: {error.strerror}")
    if (path := step_outputs_file(os.environ)) is not None:
        try:
            append_step_outputs(path, step_outputs(info, code))
        except OSError as error:
            notes.append(f"the step's outputs could not be written: {error.strerror}")
    return notes
