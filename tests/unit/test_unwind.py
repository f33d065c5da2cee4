"""What ``unwind`` does about a job that is unwound no more, when a step has come back too late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from farm_facts import JOB, VM, job, record

from banger.orders import Unwinding
from banger.pipelines import CREATE, DELETE, STOP
from banger.records import Job
from workers import unwind
from workers.farmhand import Farmhand

LATER = "d" * 12
NOW = 1_000_000.0
CLAIM = f"{'a' * 24}|{int(NOW + 60) * 1000}|1"


def rung(late: Job, holder: Job | None) -> tuple[list[Job], list[Any]]:
    """Return the jobs that were rung, and the steps that were sent."""
    jobs = {job.id: job for job in (late, holder) if job}
    rings: list[Job] = []
    sent: list[Any] = []
    known = record(id=VM, job=holder.id if holder else None)
    farmhand = SimpleNamespace(
        records=SimpleNamespace(job=jobs.get, get=lambda _: known, now=lambda: NOW),
        ring=rings.append,
        dispatch=sent.extend,
    )
    unwind.run(cast("Farmhand", farmhand), Unwinding(job=late.id))
    return rings, sent


def test_the_unwinding_of_a_failed_job_is_sent() -> None:
    failed = job(CREATE, state="unwinding")
    rings, sent = rung(failed, failed)
    assert not rings
    assert {call.direction for call in sent} == {"undo"}


def test_the_job_that_has_the_vm_by_now_goes_on() -> None:
    waiting = job(DELETE, id=LATER)
    assert rung(job(STOP, id=JOB, state="failed"), waiting) == ([waiting], [])


@pytest.mark.parametrize(
    "holder", [None, job(DELETE, id=LATER, steps={"01": CLAIM}), job(DELETE, id=LATER, state="done")]
)
def test_nobody_is_rung_for_a_job_that_is_over_or_has_somebody_at_it(holder: Job | None) -> None:
    assert rung(job(STOP, id=JOB, state="failed"), holder) == ([], [])
