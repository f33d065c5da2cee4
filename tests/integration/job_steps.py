"""A job carried out by hand against the record store: its steps, claimed and reported in order."""

from __future__ import annotations

from farm_facts import JOB, VM, host

from banger.contracts.calls import StageCall
from banger.contracts.journal import Journal, Verdict
from banger.pipelines import Pipeline
from banger.planning import calls
from banger.records import Records


def steps(records: Records, pipeline: Pipeline, job_id: str = JOB, vm: str = VM) -> list[StageCall]:
    record, job = records.get(vm), records.job(job_id)
    assert record
    assert job
    return calls(pipeline, record, job, host().network, host().uid_base)


def carry_out(journal: Journal, planned: list[StageCall]) -> None:
    for call in planned:
        assert journal.claim(call, "t").verdict is Verdict.GO
        assert journal.finished(call, "t", 1.0, None)
