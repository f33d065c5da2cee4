"""How an attempt went, from what its pipeline's job says of itself; and what becomes of the job then. Pure.

A job that has ended without an exit code of its command is an infrastructure error: nobody knows what the
command would have said. Those are tried again on their own account, apart from tests that fail.
"""

from __future__ import annotations

from typing import NamedTuple

from banger.batch.plan import JobKeep, Plan
from banger.batch.state import Attempt, BatchInfo, JobState, Tests, Verdict
from banger.contracts.errors import CancelledError
from banger.records import Job

TIMED_OUT = "the batch did not end in time"  # why a batch was cancelled, where that was it
FAIL_FAST = "a job failed, and the plan says fail_fast"

_MAX_REASON = 500


class Outcome(NamedTuple):
    """How an attempt ended. ``stage`` and ``reason``: what failed, and how; or which command it was."""

    verdict: Verdict
    exit_code: int | None = None
    stage: str | None = None
    reason: str | None = None
    tests: Tests | None = None
    files: dict[str, int] = {}
    notes: tuple[str, ...] = ()


def judge(job: Job, batch: BatchInfo) -> Outcome:
    """Return how the attempt went that this job, which has ended, was."""
    work, collected = job.said.get("work"), job.said.get("collect", {})
    error = job.error or {}
    stage, brief = error.get("stage"), str(error.get("brief", ""))[:_MAX_REASON]
    more = {
        "tests": Tests.model_validate(collected["tests"]) if collected.get("tests") else None,
        "files": collected.get("files", {}),
        "notes": tuple(collected.get("notes", ())),
    }
    if work is None:
        if error.get("kind") == CancelledError.__name__:
            return Outcome(_cut_off(batch), reason=batch.reason or "it was cancelled")
        return Outcome(Verdict.INFRA_ERROR, stage=stage, reason=brief or "its job ended and does not say why")
    if job.error and stage:
        more["notes"] = (*more["notes"], f"{stage} failed afterwards: {brief}")
    if work.get("timed_out"):
        return Outcome(Verdict.TIMED_OUT, reason=work.get("at"), **more)
    code = int(work["exit_code"])
    return Outcome(Verdict.FAILED if code else Verdict.PASSED, code, reason=work.get("at"), **more)


def after(
    old: JobState, outcome: Outcome, plan: Plan, batch: BatchInfo, now: float, *, vm_runs: bool
) -> JobState:
    """Return what a job is after this outcome of its last attempt: ended, or waiting for one more.

    ``vm_runs``: its VM is there; what failed before the guest was up has none that could be kept.
    """
    attempts = _closed(old.attempts, outcome, now)
    if batch.state == "running" and _once_more(outcome.verdict, attempts, plan):
        return old.waiting(attempts, keep=old.keep)
    return old.model_copy(
        update={
            "state": "ended",
            "attempts": attempts,
            "ended_at": now,
            "vm_kept": vm_runs and keeps(keep_of(plan, old), outcome.verdict),
            **outcome._asdict(),
        }
    )


def keep_of(plan: Plan, job: JobState) -> JobKeep:
    """Return whether a job's VM is to be kept: as the plan says, or as who ran the job again wanted."""
    return "always" if job.keep else plan.keep


def keeps(keep: JobKeep, verdict: Verdict) -> bool:
    """Tell whether the VM of a job that ended so is kept for who looks into it."""
    if verdict is Verdict.CANCELLED or keep == "never":
        return False
    return keep == "always" or verdict is not Verdict.PASSED


def over(state: JobState, vm: str, keep_ttl_s: float, now: float) -> bool:
    """Tell whether a VM was an attempt's of this job that has ended, and is not, or no longer, kept.

    Who settled the job has ordered that already, where it was not kept; an order may be lost.
    """
    ended_at = next((attempt.ended_at for attempt in state.attempts if attempt.vm == vm), None)
    kept = state.vm_kept and state.vm == vm
    return ended_at is not None and now > ended_at + (keep_ttl_s if kept else 0)


def dropped(old: JobState, batch: BatchInfo, now: float) -> JobState:
    """Return what a job is that waited, and will not be begun."""
    verdict = Verdict.TIMED_OUT if batch.reason == TIMED_OUT and old.attempts else Verdict.CANCELLED
    reason = batch.reason or "it was cancelled"
    return old.model_copy(update={"state": "ended", "verdict": verdict, "reason": reason, "ended_at": now})


def _cut_off(batch: BatchInfo) -> Verdict:
    return Verdict.TIMED_OUT if batch.reason == TIMED_OUT else Verdict.CANCELLED


def _once_more(verdict: Verdict, attempts: tuple[Attempt, ...], plan: Plan) -> bool:
    """Tell whether the plan allows another attempt. Each kind of failure has an account of its own."""
    failed = sum(attempt.verdict in (Verdict.FAILED, Verdict.TIMED_OUT) for attempt in attempts)
    broken = sum(attempt.verdict is Verdict.INFRA_ERROR for attempt in attempts)
    match verdict:
        case Verdict.FAILED | Verdict.TIMED_OUT:
            return failed <= plan.retries.test
        case Verdict.INFRA_ERROR:
            return broken <= plan.retries.infra
    return False


def _closed(attempts: tuple[Attempt, ...], outcome: Outcome, now: float) -> tuple[Attempt, ...]:
    said = {name: getattr(outcome, name) for name in ("verdict", "exit_code", "stage", "reason")}
    return (*attempts[:-1], attempts[-1].model_copy(update=said | {"ended_at": now}))
