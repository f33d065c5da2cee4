"""Facts that tests of batches need: a plan, a batch, a job of one; plain values, no fakes."""

from __future__ import annotations

from typing import Any

from farm_facts import JOB, VM

from banger.batch.plan import Plan
from banger.batch.state import Attempt, BatchInfo, JobState

BATCH = "babababababa"


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"name": "tests", "image": "micro", "run": ["true"]} | changes)


def batch(**changes: Any) -> BatchInfo:
    fields = {
        "id": BATCH,
        "name": "tests",
        "state": "running",
        "image": "micro",
        "host": "here",
        "total": 1,
        "created_at": 1000.0,
        "deadline_at": 2000.0,
    }
    return BatchInfo.model_validate(fields | changes)


def attempt(number: int = 1, **changes: Any) -> Attempt:
    return Attempt.model_validate(
        {"number": number, "vm": VM, "job": JOB, "host": "here", "began_at": 1000.0} | changes
    )


def going(**changes: Any) -> JobState:
    """A job whose first attempt is carried out."""
    fields = {
        "index": 0,
        "title": "job 0",
        "state": "running",
        "host": "here",
        "vm": VM,
        "vm_name": "tests-bababa-0",
        "job": JOB,
        "began_at": 1000.0,
        "attempts": (attempt(),),
    }
    return JobState.model_validate(fields | changes)
