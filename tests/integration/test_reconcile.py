"""What reconcile does about jobs that stand still and VMs whose time is over, with a real Redis."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from farm_facts import IMAGE, JOB, VM, host, spec

from banger.connection import FarmRedis
from banger.contracts.errors import StageFailedError
from banger.contracts.journal import Journal, job_key
from banger.pipelines import CREATE_STOPPED, DELETE
from banger.planning import calls
from banger.records import Records
from banger.states import State
from workers import reconcile
from workers.farmhand import Farmhand

pytestmark = pytest.mark.integration

Sent = list[tuple[str, dict[str, Any]]]


class World(NamedTuple):
    records: Records
    journal: Journal
    sent: Sent

    def look(self) -> Sent:
        """Let reconcile look once; return what it sent."""
        self.sent.clear()
        farmhand = SimpleNamespace(
            app=None,
            records=self.records,
            host=SimpleNamespace(name="here"),
            ring_unwind=lambda job: self.sent.append(("unwind", {"job": job})),
        )
        reconcile.ring_again(cast("Farmhand", farmhand))
        return self.sent

    def make(self, *, ended: bool = True, **wanted: Any) -> None:
        """Reserve a VM; unless it shall still be on its way, let its job end."""
        assert self.records.reserve(VM, JOB, CREATE_STOPPED, spec(**wanted), host(), IMAGE)
        if ended:
            self.carry_out(JOB)

    def carry_out(self, job_id: str, *, failing: str = "") -> None:
        record, job = self.records.get(VM), self.records.job(job_id)
        assert record
        assert job
        pipeline = DELETE if job.pipeline == DELETE.name else CREATE_STOPPED
        for call in calls(pipeline, record, job, host().network, host().uid_base):
            self.journal.claim(call, "t")
            if call.stage == failing:
                self.journal.failed(call, "t", 1.0, StageFailedError("no"))
                return
            self.journal.finished(call, "t", 1.0, None)

    def forget(self, seconds: float) -> None:
        """Let the job have been touched so long ago."""
        key, client = job_key(JOB), cast("Any", self.records.redis)
        client.hset(key, "touched", int(client.hget(key, "touched")) - int(seconds * 1000))


@pytest.fixture
def world(redis_client: FarmRedis, monkeypatch: pytest.MonkeyPatch) -> World:
    sent: Sent = []
    monkeypatch.setattr(
        reconcile,
        "send",
        lambda _app, task, _queue, payload: sent.append((task, json.loads(json.dumps(payload)))),
    )
    return World(Records(redis_client), Journal(redis_client), sent)


def test_a_job_is_rung_again_when_nothing_came_of_it_for_a_while(world: World) -> None:
    world.make(ended=False)
    assert world.look() == []
    world.forget(31)
    ((task, payload),) = world.look()
    assert (task, payload["job"], payload["pipeline"]) == ("banger.work.begin", JOB, "create-stopped")
    world.forget(31)
    assert world.look() == [], "the ring itself counts, and the next is due later"
    world.forget(60)
    assert len(world.look()) == 1


def test_a_vm_is_deleted_when_its_time_is_over(world: World) -> None:
    world.make(ttl_s=1e-6)
    ((_, payload),) = world.look()
    assert (payload["vm"], payload["pipeline"]) == (VM, "delete")


def test_a_job_outlives_its_vms_time_by_no_stage(world: World) -> None:
    world.make(ended=False, ttl_s=1e-6)
    assert world.look() == []
    assert world.records.cancelled(JOB)


def test_a_delete_that_failed_is_tried_again_after_a_while_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.make(ttl_s=1e-6)
    world.records.begin(VM, "d" * 12, DELETE, {})
    world.carry_out("d" * 12, failing="launch")
    assert world.records.find("dev").state is State.ERROR
    assert world.look() == []
    monkeypatch.setattr(reconcile, "_TRY_AGAIN_S", -1.0)
    assert len(world.look()) == 1
