"""What CI systems read of us: GitHub's workflow commands, step summary and step outputs, GitLab's sections.

Each is there only where the system's own variables say that it listens. All but the appending is pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from banger.batch.state import BatchInfo, JobState, Verdict
from banger.batch.summary import MAX_SUMMARY_BYTES
from banger.batch.verdict import describe, headline, verdict_of

MAX_ERRORS = 10  # GitHub shows no more of a step
_MAX_MESSAGE = 2000
_MAX_SECTION_LINES = 50
_TOLD = (Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR)
_NOT_COLOUR = re.compile(r"\x1b(?!\[[0-9:;]*m)|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]")


def on_github(env: Mapping[str, str]) -> bool:
    """Tell whether a GitHub workflow reads our output."""
    return env.get("GITHUB_ACTIONS") == "true"


def on_gitlab(env: Mapping[str, str]) -> bool:
    """Tell whether a GitLab runner reads our output."""
    return env.get("GITLAB_CI") == "true"


def github_commands(env: Mapping[str, str], batch: BatchInfo, jobs: Iterable[JobState]) -> tuple[str, ...]:
    """Return the lines that annotate a workflow's run: an error for the first jobs that went wrong."""
    if not on_github(env):
        return ()
    wrong = [job for job in jobs if job.verdict in _TOLD][:MAX_ERRORS]
    errors = (_command("error", f"{batch.name}: {job.title}", _message(batch, job)) for job in wrong)
    return (*errors, _command("notice", f"Batch {batch.name}", headline(batch)))


def github_fence(env: Mapping[str, str], token: str) -> tuple[str, str] | None:
    """Return the lines to print before and after what guests said, so that none of it is taken for a command.

    The token must be one that no guest can guess. None where GitHub does not listen.
    """
    return (f"::stop-commands::{token}", f"::{token}::") if on_github(env) else None


def without_commands(env: Mapping[str, str], text: str) -> str:
    """Return a line of ours, which may have names of a guest's in it, with no command to GitHub.

    A command begins a line with ``::``, as none of ours does; or, in its older form, is anywhere in one.
    """
    return text.replace("##[", "## [") if on_github(env) else text


def gitlab_sections(
    env: Mapping[str, str], batch: BatchInfo, logs: Iterable[tuple[JobState, Sequence[str]]], *, now: float
) -> Iterator[str]:
    """Yield lines that show the last lines of jobs' logs, each job folded; ``now`` in epoch seconds."""
    if not on_gitlab(env):
        return
    at = int(now)
    for job, lines in logs:
        section = f"banger_{batch.id}_{job.index}"
        header = _NOT_COLOUR.sub("", f"{batch.name}: {job.title}: {describe(job)}")
        yield f"\x1b[0Ksection_start:{at}:{section}[collapsed=true]\r\x1b[0K{header}"
        yield from (_NOT_COLOUR.sub("", line) + "\x1b[0m" for line in lines[-_MAX_SECTION_LINES:])
        yield f"\x1b[0Ksection_end:{at}:{section}\r\x1b[0K"


def step_summary_file(env: Mapping[str, str]) -> Path | None:
    """Return the file that GitHub takes a step's summary from, None where there is none."""
    path = env.get("GITHUB_STEP_SUMMARY", "")
    return Path(path) if on_github(env) and path else None


def append_step_summary(path: Path, markdown: str) -> bool:
    """Append to a step's summary; False where it would be more than GitHub takes. OSError as files do."""
    data = markdown.encode(errors="replace")
    with path.open("ab") as file:
        if file.seek(0, os.SEEK_END) + len(data) > MAX_SUMMARY_BYTES:
            return False
        file.write(data)
    return True


def step_outputs_file(env: Mapping[str, str]) -> Path | None:
    """Return the file that GitHub takes a step's outputs from, None where there is none."""
    path = env.get("GITHUB_OUTPUT", "")
    return Path(path) if on_github(env) and path else None


def step_outputs(batch: BatchInfo, code: int) -> str:
    """Return a step's outputs, a line each: ``batch``, ``verdict``, ``total``, and a count by verdict.

    ``code`` is the batch's exit code. All of it is our own words and numbers: nothing to be escaped.
    """
    outputs: dict[str, object] = {"batch": batch.id, "verdict": verdict_of(code), "total": batch.total}
    outputs |= {verdict: batch.counts.get(verdict, 0) for verdict in Verdict}
    return "".join(f"{name}={value}\n" for name, value in outputs.items())


def append_step_outputs(path: Path, outputs: str) -> None:
    """Append to a step's outputs. OSError as files do."""
    with path.open("a") as file:
        file.write(outputs)


def _message(batch: BatchInfo, job: JobState) -> str:
    lines = [f"{describe(job)}{f' on {job.host}' if job.host else ''}"]
    if job.tests and job.tests.failed:
        lines.append("Failed tests: " + ", ".join(job.tests.failed))
    lines.append(f"Log: banger batch logs {batch.id} {job.index}")
    if job.vm_kept:
        lines.append(f"Its VM is kept: banger batch debug {batch.id} {job.index}")
    return "\n".join(line[:_MAX_MESSAGE] for line in lines)


def _command(name: str, title: str, message: str) -> str:
    """Return a workflow command; what is special in its title and its message is escaped."""
    title = _escaped(" ".join(title.split())).replace(":", "%3A").replace(",", "%2C")
    return f"::{name} title={title}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
