"""Jobs that take longer than all their stages may: told once, and cancelled where that can be.

A stage that hangs is its worker's affair (``banger.contracts.overdue``), and its job is not late by then.
What comes here was kept from going on: nobody serves a queue, an undo fails to begin, a guest takes for ever.
An unwinding goes on whatever it takes, for nothing else takes back what there is; that is told too.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from banger.jobs import deadline_at, deadline_s
from banger.pipelines import PIPELINES
from banger.records import Job, Records

log = logging.getLogger("banger.reconcile")


class Late(NamedTuple):
    """What is said of a job that is late, and whether it is to be cancelled for it."""

    brief: str
    cancel: bool


def late(job: Job, now: float) -> Late | None:
    """Return what is to be done about a job's deadline at this time (epoch seconds), if anything. Pure."""
    due = deadline_at(job)
    if due is None or now <= due:
        return None
    if job.state == "unwinding":
        return Late(f"what the job did is not undone after {deadline_s(job):g} s", cancel=False)
    return Late(f"the job took longer than {deadline_s(job):g} s", cancel=PIPELINES[job.pipeline].cancellable)


def enforce_deadline(records: Records, job: Job, now: float) -> None:
    """Cancel a job whose time is over where that can be, and tell of it in any case."""
    if verdict := late(job, now):
        if verdict.cancel:
            records.fail(job.id, verdict.brief)
        if records.tell_overdue(job, verdict.brief):
            log.warning("%s of VM %s (job %s): %s", job.pipeline, job.vm, job.id, verdict.brief)
