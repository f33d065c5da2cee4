"""What reconcile does about jobs that stand still and VMs whose time is over, with a real Redis."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from farm_facts import IMAGE, JOB, VM, host, spec

from banger.connection import FarmRedis
from banger.contracts.errors import StageFailedError
from banger.contracts.inventory import FoundVm, Inventory, inventory_key
from banger.contracts.journal import Journal, job_key, vm_key
from banger.contracts.names import HostPaths
from banger.contracts.states import State
from banger.orders import Order
from banger.pipelines import CREATE_STOPPED, DELETE, RUN
from banger.planning import calls
from banger.records import Records
from workers import farmhand as farmhand_module
from workers import intents, reconcile
from workers.farmhand import Farmhand
from workers.vanished import Vanished

pytestmark = pytest.mark.integration

ROOT = "f" * 12

Sent = list[tuple[str, dict[str, Any]]]


class World(NamedTuple):
    records: Records
    journal: Journal
    sent: Sent
    paths: HostPaths
    vanished: Vanished
    rings: reconcile.Rings

    def look(self) -> Sent:
        """Let reconcile look once; return what it sent."""
        self.sent.clear()
        farmhand = SimpleNamespace(
            records=self.records,
            host=SimpleNamespace(name="here", paths=self.paths),
            ring_unwind=lambda job: self.sent.append(("unwind", {"job": job})),
            ring_begin=lambda vm, pipeline, job=None: self.sent.append(
                ("begin", {"vm": vm, "pipeline": pipeline, "job": job})
            ),
            vanished=self.vanished,
            rings=self.rings,
            journal=self.journal,
        )
        reconcile.look_after(cast("Farmhand", farmhand))
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
def world(redis_client: FarmRedis, tmp_path: Path) -> World:
    paths = HostPaths(tmp_path, tmp_path / "run")
    paths.vm(VM).mkdir(parents=True)
    world = World(Records(redis_client), Journal(redis_client), [], paths, Vanished(), reconcile.Rings())
    world.look()  # the first time, all jobs are rung
    return world


def test_a_job_is_rung_again_when_nothing_came_of_it_for_a_while(world: World) -> None:
    world.make(ended=False)
    assert world.look() == []
    world.forget(31)
    ((task, payload),) = world.look()
    assert (task, payload["job"], payload["pipeline"]) == ("begin", JOB, "create-stopped")
    world.forget(31)
    assert world.look() == [], "the ring itself counts, and the next is due later"
    world.forget(60)
    assert len(world.look()) == 1


def test_a_job_that_nobody_is_at_is_rung_at_once_when_a_process_has_died(world: World) -> None:
    world.make(ended=False)
    client: Any = world.records.redis

    def root_is(incarnation: str) -> Sent:
        said = Inventory(at=1, incarnation=incarnation, vms=())
        client.set(inventory_key("here"), said.model_dump_json())
        return world.look()

    assert root_is(ROOT) == [], "nothing was known of it before"
    client.delete(inventory_key("here"))
    assert world.look() == []
    assert len(root_is("e" * 12)) == 1
    assert root_is("e" * 12) == []


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


def test_what_has_come_to_rest_is_remembered_on_the_host(world: World) -> None:
    world.make()
    world.look()
    assert intents.recall(world.paths, VM) == world.records.get(VM)


def test_a_vm_whose_vmm_has_vanished_is_stopped_when_that_was_seen_twice(world: World) -> None:
    world.make()
    client: Any = world.records.redis
    client.hset(vm_key(VM), "state", "running")

    def found(at: float, *, alive: bool, root: str = ROOT) -> Sent:
        vm = FoundVm(vm_id=VM, generation=1, slot=2, alive=alive)
        client.set(inventory_key("here"), Inventory(at=at, incarnation=root, vms=(vm,)).model_dump_json())
        return world.look()

    assert found(100, alive=False) == []
    assert found(102, alive=False) == []
    assert found(103, alive=True) == []  # it was only being started
    assert found(104, alive=False) == []
    client.delete(inventory_key("here"))
    assert world.look() == []  # nothing is known, so nothing is done
    ((_, begun),) = found(109, alive=False)
    assert (begun["vm"], begun["pipeline"]) == (VM, "kill")


def test_a_command_is_rung_again_with_its_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"argv": ["make", "test"], "timeout_s": 60.0}
    assert world.records.reserve(VM, JOB, RUN, spec(), host(), IMAGE, **words)
    sent: list[Any] = []
    monkeypatch.setattr(farmhand_module, "send", lambda *message: sent.append(message[-1]))
    ringing = SimpleNamespace(records=world.records, app=None, host=SimpleNamespace(name="here"))
    Farmhand.ring_begin(cast("Farmhand", ringing), VM, RUN.name, JOB)
    assert Order.model_validate(sent[0]).params.model_dump(exclude_none=True) == words | {
        "argv": ("make", "test")
    }
