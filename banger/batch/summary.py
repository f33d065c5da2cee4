"""A batch in Markdown, fit for GitHub's step summary: what did not pass first, and what to type next.

Titles, reasons and names of tests come from plans and guests. They are shown as text whatever they are: no
markup, no HTML, no link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from banger.batch.junit import add_tests
from banger.batch.state import BatchInfo, JobState, Tests, Verdict
from banger.batch.verdict import describe, headline, took_s

MAX_SUMMARY_BYTES = 1 << 20  # of GitHub's step summary
_MAX_FAILING_BYTES = 640 * 1024
_MAX_PASSED_BYTES = 256 * 1024
_MAX_CELL = 160
_MAX_NAMES = 5
_MARKUP = re.compile(r"[\\`*_\[\](){}#!|~^:]")
_HEADER = "| Job | What | Host | Verdict | Exit code | Time | Failed tests | Log |\n" + "|---" * 8 + "|"


def render_summary(batch: BatchInfo, jobs: Sequence[JobState]) -> str:
    """Return the summary of a batch, MAX_SUMMARY_BYTES of UTF-8 at most."""
    passed = [job for job in jobs if job.verdict is Verdict.PASSED]
    others = [job for job in jobs if job.verdict is not Verdict.PASSED]
    parts = [f"## Batch {plain(batch.name)}: {headline(batch)}", _facts(batch, jobs)]
    if others:
        parts.append(_table(batch, others, _MAX_FAILING_BYTES))
        parts.append(_advice(batch, others))
    if passed:
        table = _table(batch, passed, _MAX_PASSED_BYTES)
        parts.append(f"<details>\n<summary>{len(passed)} passed</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def plain(text: str, limit: int = _MAX_CELL) -> str:
    """Return a stranger's text as a line of Markdown that shows it, and nothing else."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(line.split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: f"\\{found[0]}", line).replace("@", "&#64;").replace("$", "&#36;")


def duration(seconds: float | None) -> str:
    """Return a duration in words: ``42 s``, ``3 min 20 s``, ``2 h 5 min``; "" for none."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _facts(batch: BatchInfo, jobs: Iterable[JobState]) -> str:
    image = f"{batch.image} ({batch.image_id})" if batch.image_id else batch.image
    facts = [f"Batch `{batch.id}`", f"image {plain(image)}"]
    if batch.ended_at is not None:
        facts.append(f"took {duration(batch.ended_at - batch.created_at)}")
    tests = Tests()
    for job in jobs:
        tests = add_tests(tests, job.tests or Tests())
    if tests.tests:
        facts.append(
            f"{tests.tests} tests, {tests.failures} failures, {tests.errors} errors, {tests.skipped} skipped"
        )
    reason = f"\n\nCancelled: {plain(batch.reason)}" if batch.reason else ""
    return f"{' · '.join(facts)}{reason}"


def _table(batch: BatchInfo, jobs: Sequence[JobState], max_bytes: int) -> str:
    """Return a table of jobs, as many of them as fit."""
    rows = [_HEADER]
    left = max_bytes
    for shown, job in enumerate(jobs):
        row = _row(batch, job)
        left -= len(row.encode()) + 1
        if left < 0:
            return "\n".join(rows) + f"\n\n… and {len(jobs) - shown} more: `banger batch status {batch.id}`"
        rows.append(row)
    return "\n".join(rows)


def _row(batch: BatchInfo, job: JobState) -> str:
    cells = (
        str(job.index),
        plain(job.title),
        plain(job.host or ""),
        plain(describe(job)),
        "" if job.exit_code is None else str(job.exit_code),
        duration(took_s(job)),
        _failed_tests(job.tests or Tests()),
        f"`banger batch logs {batch.id} {job.index}`",
    )
    return f"| {' | '.join(cells)} |"


def _failed_tests(tests: Tests) -> str:
    names = [plain(name) for name in tests.failed[:_MAX_NAMES]]
    if more := tests.failures + tests.errors - len(names):
        names.append(f"and {more} more")
    return "<br>".join(names)


def _advice(batch: BatchInfo, jobs: Sequence[JobState]) -> str:
    """Return what to type next, for the first job that failed, and for all of them."""
    first = next((job for job in jobs if job.verdict in (Verdict.FAILED, Verdict.TIMED_OUT)), jobs[0])
    kept = next((job for job in jobs if job.vm_kept), None)
    lines = [f"banger batch logs {batch.id} {first.index:<6} # what it said"]
    if kept:
        lines.append(f"banger batch debug {batch.id} {kept.index:<5} # a shell in its VM, which is kept")
    lines.append(f"banger batch rerun {batch.id} {first.index:<5} # run it again, alone")
    lines.append(f"banger batch retry {batch.id} --failed # run again all that failed")
    return "\n".join(("```sh", *lines, "```"))
