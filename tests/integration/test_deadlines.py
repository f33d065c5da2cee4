"""Stages that hang, in real workers, and jobs whose time is over."""

from __future__ import annotations

import time
from typing import Any

import pytest
from farm_box import await_stage, eventually
from faulty_farm import Fault, FaultyFarm

from banger.contracts.errors import StageFailedError
from banger.contracts.journal import job_key
from banger.contracts.states import State
from banger.events import Event
from banger.pipelines import CREATE

pytestmark = pytest.mark.integration


SOON_S = 20.0


def failures(events: list[Event], job: str) -> list[str]:
    return [e.stage for e in events if (e.kind, e.job, e.unwinding) == ("failed", job, False)]


@pytest.mark.parametrize("stage", ["tap", "work_disk"])
def test_a_stage_that_hangs_fails_at_its_deadline_and_its_job_is_undone(
    faulty: FaultyFarm, stage: str
) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault(stage, "before", "hang"))
    submission = farm.submit_create(farm.spec("dev"))
    eventually(lambda: failures(farm.events.read(submission.vm_id), submission.job))
    assert farm.job(submission.job).state == "unwinding", "nobody undoes what is still being done"
    client: Any = faulty.box.admin.redis
    client.hset(job_key(submission.job), "rings", 5)  # reconcile's next ring is a minute away
    faulty.mend()
    mended = time.monotonic()
    with pytest.raises(StageFailedError, match=rf"^{stage} failed: {stage} did not end within 0\.5 s"):
        submission.wait()
    assert time.monotonic() - mended < SOON_S, "it is rung for by what has come back"
    assert not faulty.box.traces()
    assert farm.show("dev").state is State.ERROR


def test_a_job_whose_time_is_over_is_cancelled_with_that_reason(faulty: FaultyFarm) -> None:
    farm, admin = faulty.box.farm, faulty.box.admin
    faulty.expect(Fault("tap", "before", "hold"))
    submission = farm.submit_create(farm.spec("dev"))
    await_stage(submission, farm, "tap")
    client: Any = admin.redis
    client.hset(job_key(submission.job), "began", 1)
    eventually(lambda: farm.records.cancelled(submission.job))
    faulty.mend()
    with pytest.raises(StageFailedError, match=r"^launch failed: the job took longer than"):
        submission.wait()
    assert [e.error for e in farm.timeline("dev") if e.kind == "overdue"] == [
        {"brief": f"the job took longer than {CREATE.deadline_s:g} s"}
    ]
    assert not faulty.box.traces()


def test_an_unwinding_goes_on_beyond_its_time_and_whoever_cancels_it_again(faulty: FaultyFarm) -> None:
    farm, admin = faulty.box.farm, faulty.box.admin
    faulty.expect(Fault("tap", "after"), Fault("overlay", "before", "hold", "undo"))
    submission = farm.submit_create(farm.spec("dev"))
    eventually(lambda: (job := farm.records.job(submission.job)) and job.failed_ms)
    client: Any = admin.redis
    client.hset(job_key(submission.job), "failed_at", 1)
    eventually(lambda: [e for e in farm.events.read(submission.vm_id) if e.kind == "overdue"])
    farm.cancel(submission.job)
    faulty.mend()
    with pytest.raises(StageFailedError, match=r"^tap failed"):
        submission.wait()
    assert not faulty.box.traces()
