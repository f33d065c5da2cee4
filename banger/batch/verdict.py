"""A batch's verdict in an exit code and in words, the same in a terminal, a summary and an annotation."""

from __future__ import annotations

from collections.abc import Iterable

from banger.batch.state import BatchInfo, JobState, Verdict

PASSED, SOME_FAILED, INFRASTRUCTURE, CANCELLED = 0, 1, 3, 130
WRONG = (Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR)
"""The verdicts that somebody has to look into."""
_MAX_WORDS = 300
_CODES = {
    PASSED: Verdict.PASSED,
    SOME_FAILED: Verdict.FAILED,
    INFRASTRUCTURE: Verdict.INFRA_ERROR,
    CANCELLED: Verdict.CANCELLED,
}


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return what `banger batch run` ends with.

    0: all passed. 1: a command failed or took too long. 3: none did, but the infrastructure failed somewhere.
    130: nothing but that jobs were cancelled.
    """
    met = set(verdicts)
    if met & {Verdict.FAILED, Verdict.TIMED_OUT}:
        return SOME_FAILED
    if Verdict.INFRA_ERROR in met:
        return INFRASTRUCTURE
    return CANCELLED if Verdict.CANCELLED in met else PASSED


def verdict_of(code: int) -> Verdict:
    """Return the verdict on a whole batch, of one of the codes that ``exit_code`` gives."""
    return _CODES[code]


def headline(batch: BatchInfo) -> str:
    """Return a batch's outcome in a line: ``3 of 40 failed, 1 infrastructure error``."""
    count = batch.counts.get
    failed, infra = count(Verdict.FAILED, 0), count(Verdict.INFRA_ERROR, 0)
    others = (
        (count(Verdict.TIMED_OUT, 0), "timed out"),
        (infra, "infrastructure error" if infra == 1 else "infrastructure errors"),
        (count(Verdict.CANCELLED, 0), "cancelled"),
        (batch.total - batch.done, "not ended"),
    )
    first = (
        f"{failed} of {batch.total} failed"
        if failed
        else f"{count(Verdict.PASSED, 0)} of {batch.total} passed"
    )
    return ", ".join([first, *(f"{number} {words}" for number, words in others if number > 0)])


def describe(job: JobState) -> str:
    """Return how a job ended, or where it is, in a line: ``failed: exit code 2 (run 1: make test)``."""
    reason = " ".join((job.reason or "").split())
    match job.verdict:
        case None:
            words = str(job.state)
        case Verdict.PASSED:
            words = "passed"
        case Verdict.FAILED:
            code = "" if job.exit_code is None else f": exit code {job.exit_code}"
            words = f"failed{code}{f' ({reason})' if reason else ''}"
        case Verdict.TIMED_OUT:
            words = f"timed out{f' ({reason})' if reason else ''}"
        case Verdict.INFRA_ERROR:
            words = ": ".join(filter(None, ("infrastructure error", job.stage, reason)))
        case Verdict.CANCELLED:
            words = f"cancelled{f': {reason}' if reason else ''}"
    return words if len(words) <= _MAX_WORDS else f"{words[: _MAX_WORDS - 1]}…"


def took_s(job: JobState) -> float | None:
    """Return how long a job's last attempt took in seconds, None where it has not ended or never began."""
    if job.began_at is None or job.ended_at is None:
        return None
    return max(0.0, job.ended_at - job.began_at)
