"""Jobs of a real farm: seen while they are at it, cancelled, and what is refused."""

from __future__ import annotations

import pytest
from farm_box import await_stage, eventually
from faulty_farm import Fault, FaultyFarm

from banger.contracts.errors import CancelledError, NotFoundError, WrongStateError
from banger.farm import Farm
from banger.jobs import Step
from banger.pipelines import DELETE

pytestmark = pytest.mark.integration


def test_a_job_is_seen_at_its_stage_and_cancelled(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault("work_disk", "before", "hold"))
    submission = farm.submit_create(farm.spec("dev"))
    await_stage(submission, farm, "work_disk")
    (info,) = farm.jobs()
    assert (info.id, info.name, info.pipeline, info.stage) == (submission.job, "dev", "create", "work_disk")
    assert info.began_at is not None
    assert [step.mark for step in farm.job_steps(info.id)] == ["done"] * 5 + ["running"] + ["waiting"] * 3
    farm.cancel(info.id)
    assert farm.job(info.id).cancelled
    faulty.mend()
    ended = farm.wait_for(info.id)
    assert (ended.state, ended.name, ended.stage) == ("failed", None, "tap")
    assert ended.error is not None
    assert ended.error["kind"] == CancelledError.__name__
    assert not farm.jobs()
    assert ended in farm.jobs(ended=True)
    undone = [step for step in farm.job_steps(info.id) if step.unwinding]
    assert {step.mark for step in undone} == {"done"}
    assert not faulty.box.traces()
    with pytest.raises(WrongStateError, match="has ended already: failed"):
        farm.cancel(info.id)


def steps_of(farm: Farm, job: str, stage: str) -> list[Step]:
    """Return the steps of a job, which may not have begun yet, that are of this stage."""
    return [step for step in farm.job_steps(job) if step.stage == stage] if farm.records.job(job) else []


def test_what_undoes_things_itself_is_not_cancelled(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    farm.create("dev", start=False)
    faulty.expect(Fault("overlay", "before", "hold", "undo"))
    deleting = farm.submit(DELETE, "dev", timeout_s=0)
    eventually(lambda: any(step.mark == "running" for step in steps_of(farm, deleting.job, "overlay")))
    with pytest.raises(WrongStateError, match="a delete cannot be cancelled"):
        farm.cancel(deleting.job)
    faulty.mend()
    assert deleting.wait().state == "gone"


def test_a_job_that_nobody_knows_is_not_found(faulty: FaultyFarm) -> None:
    with pytest.raises(NotFoundError, match="there is no job 'ffffffffffff'"):
        faulty.box.farm.cancel("f" * 12)
