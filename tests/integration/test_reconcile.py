"""Reconcile with a real Redis and real files: what it finds, what it sends, what it writes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from farm_facts import IMAGE, JOB, NETWORK, UID_BASE, VM, host, spec

from banger.connection import FarmRedis
from banger.contracts.calls import StageCall
from banger.contracts.dm_snapshot import Overlay
from banger.contracts.errors import StageFailedError
from banger.contracts.inventory import Found, FoundVm, Inventory, inventory_key
from banger.contracts.journal import Journal, job_key, vm_key
from banger.contracts.names import HostPaths, new_id
from banger.contracts.states import State
from banger.events import Events
from banger.findings import Action
from banger.orders import Look, Order
from banger.pipelines import CREATE_STOPPED, DELETE, PIPELINES, RUN
from banger.planning import calls
from banger.records import Record, Records
from workers import begin, decisions, intents, reconcile
from workers import farmhand as farmhand_module
from workers.farmhand import Farmhand
from workers.host import WorkHost
from workers.names import Names
from workers.reboot import Reboot
from workers.reconcile import Reconciler
from workers.rings import Rings

pytestmark = pytest.mark.integration

ROOT = "f" * 12
STRAY = "fedcba987654"

Sent = list[tuple[str, str]]


class World:
    """A host, its files and its Redis; what is sent is noted."""

    def __init__(self, client: FarmRedis, directory: Path) -> None:
        self.records = Records(client)
        self.redis: Any = client
        self.journal = Journal(client)
        self.paths = HostPaths(directory, directory / "run")
        self.sent: Sent = []
        self.orders: list[Order] = []
        self.clock = 100.0
        self.farmhand: Any = SimpleNamespace(
            records=self.records,
            journal=self.journal,
            host=WorkHost("here", self.paths, NETWORK, UID_BASE),
            rings=Rings(),
            reboot=Reboot(self.paths),
            ring=self._ring,
            ring_begin=self._ring_begin,
        )
        self.farmhand.names = Names(self.farmhand.host)
        self.reconciler = Reconciler(cast("Farmhand", self.farmhand))
        self.farmhand.reconciler = self.reconciler

    def _ring_begin(self, vm: str, pipeline: str, job: str | None = None, *, rev: int | None = None) -> None:
        self.sent.append((pipeline, vm))
        self.orders.append(
            Order.model_validate({"vm": vm, "job": job or new_id(), "pipeline": pipeline, "rev": rev})
        )

    def _ring(self, job: Any) -> None:
        self.records.rang(job.id)
        self.sent.append((f"ring {job.pipeline}", job.vm))

    def look(self) -> Sent:
        """Let reconcile look once; return what it sent."""
        self.sent.clear()
        self.reconciler.look()
        return self.sent

    def look_twice(self, **seen: Any) -> Sent:
        """Let reconcile look, and look again when that makes sure, at the same inventory."""
        self.root_says(**seen)
        assert self.look() == [], "not at the first look"
        self.clock += 6
        self.root_says(**seen)
        return self.look()

    def root_says(self, *, root: str = ROOT, alive: bool | None = None, **more: Any) -> None:
        vms = () if alive is None else (FoundVm(vm_id=VM, generation=1, slot=2, alive=alive),)
        said = Inventory(at=self.clock, objects_at=self.clock, incarnation=root, vms=vms, **more)
        self.redis.set(inventory_key("here"), said.model_dump_json())

    def make(self, *, ended: bool = True, **wanted: Any) -> Record:
        """Reserve a VM; unless it shall still be on its way, let its job end."""
        assert self.records.reserve(VM, JOB, CREATE_STOPPED, spec(**wanted), host(), IMAGE)
        self.paths.vm(VM).mkdir(parents=True, exist_ok=True)
        if ended:
            self.carry_out(JOB)
        record = self.records.get(VM)
        assert record
        return record

    def carry_out(self, job_id: str, *, failing: str = "") -> None:
        record, job = self.records.get(VM), self.records.job(job_id)
        assert record
        assert job
        pipeline = DELETE if job.pipeline == DELETE.name else CREATE_STOPPED
        for call in calls(pipeline, record, job, NETWORK, UID_BASE):
            self.journal.claim(call, "t")
            if call.stage == failing:
                self.journal.failed(call, "t", 1.0, StageFailedError("no"))
                return
            self.journal.finished(call, "t", 1.0, None)

    def forget(self, seconds: float) -> None:
        """Let the job have been touched so long ago."""
        touched = int(self.redis.hget(job_key(JOB), "touched")) - int(seconds * 1000)
        self.redis.hset(job_key(JOB), "touched", touched)


@pytest.fixture
def world(redis_client: FarmRedis, tmp_path: Path) -> World:
    made = World(redis_client, tmp_path)
    made.paths.vms.mkdir()
    made.look()  # the first time, all jobs are rung
    return made


def test_a_job_is_rung_again_when_nothing_came_of_it_for_a_while(world: World) -> None:
    world.make(ended=False)
    assert world.look() == []
    world.forget(31)
    assert world.look() == [("ring create-stopped", VM)]
    world.forget(31)
    assert world.look() == [], "the ring itself counts, and the next is due later"
    world.forget(60)
    assert len(world.look()) == 1


def test_a_job_that_nobody_is_at_is_rung_at_once_when_a_process_has_died(world: World) -> None:
    world.make(ended=False)
    world.root_says()
    assert world.look() == [], "nothing was known of it before"
    world.redis.delete(inventory_key("here"))
    assert world.look() == []
    world.root_says(root="e" * 12)
    world.reconciler.look(act=False)
    assert len(world.look()) == 1, "a look that only looks has rung nobody"
    assert world.look() == []


def test_a_job_of_another_boot_is_rung_until_it_is_taken_up_and_then_does_all_again(world: World) -> None:
    made = world.make(ended=False)
    sent: list[StageCall] = []
    world.farmhand.dispatch = sent.extend
    order = Order.model_validate({"vm": VM, "job": JOB, "pipeline": CREATE_STOPPED.name})
    begin.run(world.farmhand, order)
    world.journal.claim(sent[0], "t")
    world.journal.finished(sent[0], "t", 1.0, None)
    world.look()
    assert world.look() == [], "it goes on"
    world.redis.hset(job_key(JOB), "boot", "another")
    assert [world.look(), world.look()] == [[("ring create-stopped", VM)]] * 2
    first, *_ = sent
    sent.clear()
    begin.run(world.farmhand, order)
    assert sent[0].step == first.step
    assert {call.generation for call in sent} == {made.generation + 1}
    assert world.look() == []


def test_a_vm_is_deleted_when_its_time_is_over(world: World) -> None:
    world.make(ttl_s=1e-6)
    assert world.look() == [("delete", VM)]


def test_a_job_outlives_its_vms_time_by_no_stage(world: World) -> None:
    world.make(ended=False, ttl_s=1e-6)
    assert world.look() == []
    assert world.records.cancelled(JOB)


def test_a_delete_that_failed_is_tried_again_after_a_while_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.make()
    world.records.begin(VM, "d" * 12, DELETE, {})
    world.carry_out("d" * 12, failing="launch")
    assert world.records.find("dev").state is State.ERROR
    assert world.look() == []
    monkeypatch.setattr(decisions, "_TRY_AGAIN_S", -1.0)
    assert world.look() == [("delete", VM)]


def test_what_has_come_to_rest_is_remembered_on_the_host(world: World) -> None:
    world.make()
    world.look()
    assert intents.recall(world.paths, VM) == world.records.get(VM)


def test_a_vm_whose_vmm_has_vanished_is_stopped_when_that_was_seen_twice(world: World) -> None:
    world.make()
    world.redis.hset(vm_key(VM), "state", "running")

    def found(at: float, *, alive: bool) -> Sent:
        world.clock = at
        world.root_says(alive=alive)
        return world.look()

    assert found(100, alive=False) == []
    assert found(102, alive=False) == []
    assert found(103, alive=True) == []  # it was only being started
    assert found(104, alive=False) == []
    world.redis.delete(inventory_key("here"))
    assert world.look() == []  # nothing is known, so nothing is done
    assert found(105, alive=False) == []
    assert found(111, alive=False) == [("kill", VM)]
    told = Events(world.records.redis).read(VM)[-1]
    assert (told.kind, told.job, told.error) == ("found", world.orders[-1].job, {"brief": "its VMM is gone"})


def test_a_kill_that_comes_late_does_nothing_to_what_was_started_since(world: World) -> None:
    world.make()
    world.redis.hset(vm_key(VM), "state", "running")
    assert world.look_twice(alive=False) == [("kill", VM)]
    (late,) = world.orders
    for pipeline, state in (("kill", State.STOPPED), ("start", State.RUNNING)):
        world.records.begin(VM, new_id(), PIPELINES[pipeline], {})
        record = world.records.find(VM)
        job = world.records.job(record.job or "")
        assert job
        for call in calls(PIPELINES[pipeline], record, job, NETWORK, UID_BASE):
            world.journal.claim(call, "t")
            world.journal.finished(call, "t", 1.0, None)
        assert world.records.find(VM).state is state
    running = world.records.find(VM)
    begin.run(world.farmhand, late)
    assert world.records.find(VM) == running


def test_what_was_booted_again_and_has_ended_is_stopped(world: World) -> None:
    world.make(autostart=True)
    world.redis.hset(vm_key(VM), "state", "running")
    (world.paths.vms / ".boot-id").write_text("another")
    assert world.look_twice(alive=False) == [("restart", VM)]
    world.redis.hset(
        job_key(world.orders[-1].job), mapping={"vm": VM, "pipeline": "restart", "state": "done"}
    )
    assert world.look() == [("kill", VM)]


def test_what_its_host_has_nothing_of_is_lost_with_its_story(world: World) -> None:
    world.make()
    world.paths.vm(VM).rmdir()
    assert world.look_twice() == []
    record = world.records.find("dev")
    assert (record.state, record.slot) == (State.LOST, None)
    assert record.error
    assert "nothing of it" in record.error["brief"]
    assert world.records.used("here").slots == 0


def test_what_was_lost_and_is_there_again_is_restored_and_not_deleted(world: World) -> None:
    made = world.make()
    world.look()  # which writes its intent file
    aside = world.paths.vms.with_name("unmounted")
    world.paths.vm(VM).rename(aside)
    assert world.look_twice() == []
    assert world.records.find(VM).state is State.LOST
    aside.rename(world.paths.vm(VM))
    world.clock += 6
    assert world.look_twice(alive=False) == []
    found_again = world.records.find("dev")
    assert (found_again.state, found_again.slot) == (State.STOPPED, made.slot)
    assert world.records.used("here").slots == 1


def test_an_older_copy_gives_way_to_what_the_host_remembers(world: World) -> None:
    old = world.make()
    intents.remember(world.paths, old.model_copy(update={"rev": old.rev + 3, "generation": 4}))
    assert world.look_twice(alive=True) == []  # the first inventory may be of the older copy too
    restored = world.records.find("dev")
    assert (restored.state, restored.generation) == (State.RUNNING, 4)
    assert restored.rev > old.rev
    assert world.look() == [], "and that is all"


def test_a_vm_that_lives_though_it_is_stopped_is_said_to_run(world: World) -> None:
    world.make()
    assert world.look_twice(alive=True) == []
    assert world.records.find("dev").state is State.RUNNING


def test_an_intent_gives_way_to_no_older_record(world: World) -> None:
    old = world.make()
    young = old.model_copy(update={"rev": old.rev + 3})
    intents.remember(world.paths, young)
    intents.remember(world.paths, old)
    assert intents.recall(world.paths, VM) == young


def test_a_vm_that_redis_has_forgotten_is_restored_when_that_was_seen_twice(world: World) -> None:
    made = world.make()
    world.look()
    world.redis.flushall()
    assert world.look_twice(alive=False) == []
    assert world.records.find("dev").state is State.STOPPED
    assert world.records.find("dev").slot == made.slot


@pytest.mark.parametrize("spoilt", ["{", "another host's"])
@pytest.mark.parametrize("alive", [True, False, None])
def test_a_forgotten_vm_whose_intent_file_tells_nothing_is_left_alone(
    world: World, spoilt: str, *, alive: bool | None
) -> None:
    made = world.make()
    text = made.model_copy(update={"host": "there"}).model_dump_json() if spoilt != "{" else spoilt
    world.paths.intent(VM).write_text(text)
    world.redis.flushall()
    assert world.look_twice(alive=alive) == []
    record = world.records.get(VM)
    assert record
    assert (record.state, record.slot) == (State.ERROR, None if alive is None else made.slot)
    world.clock += 6
    assert world.look_twice(alive=alive) == []
    assert world.paths.intent(VM).read_text() == text


def test_a_directory_of_nobodys_is_deleted_by_the_ordinary_stages(world: World) -> None:
    world.paths.vm(STRAY).mkdir()
    assert world.look_twice() == [("delete", STRAY)]
    assert world.records.find(STRAY).state is State.ERROR


def test_what_root_does_not_know_is_swept_with_the_slot_that_it_tells(world: World) -> None:
    taken = world.make()
    strays = (Found(kind="tap", name="bgr-fedcba98765", vm_id=STRAY, slot=7),)
    assert world.look_twice(alive=False, strays=strays) == [("sweep", STRAY)]
    assert world.records.find(STRAY).slot == 7
    other = new_id()
    strays = (Found(kind="tap", name=f"bgr-{other[:11]}", vm_id=other, slot=taken.slot),)
    assert world.look_twice(alive=False, strays=strays) == [("sweep", other)]
    assert world.records.find(other).slot not in (None, taken.slot, 7)


def test_what_was_adopted_is_swept_though_its_first_order_was_lost(world: World) -> None:
    strays = (Found(kind="tap", name="bgr-fedcba98765", vm_id=STRAY, slot=7),)
    assert world.look_twice(strays=strays) == [("sweep", STRAY)]
    adopted = world.records.find(STRAY)
    world.clock += 6
    assert world.look_twice(strays=strays) == [("sweep", STRAY)]
    assert world.orders[-1].rev == adopted.rev


def test_half_a_directory_is_cleared(world: World) -> None:
    left = world.paths.removed(STRAY)
    left.mkdir()
    (left / "overlay.img").touch()
    assert world.look_twice() == []
    assert not left.exists()


def test_who_asks_is_told_what_was_found_and_what_became_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_PAUSE_S", 0.01)
    world.paths.removed(STRAY).mkdir()
    look = world.reconciler.look

    def later(*, act: bool = True) -> Any:
        world.clock += 3
        world.root_says()
        return look(act=act)

    monkeypatch.setattr(world.reconciler, "look", later)
    for act, outcome in ((False, ""), (True, "removed")):
        world.reconciler.answer(Look(id=JOB, act=act))
        report = world.records.reports(JOB)["here"]
        assert [(one.action, one.outcome) for one in report.findings] == [(Action.CLEAR, outcome)]
    assert not world.paths.removed(STRAY).exists()


def test_a_command_is_rung_again_with_its_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"argv": ["make", "test"], "timeout_s": 60.0}
    assert world.records.reserve(VM, JOB, RUN, spec(), host(), IMAGE, **words)
    sent: list[Any] = []
    monkeypatch.setattr(farmhand_module, "send", lambda *message: sent.append(message[-1]))
    ringing = SimpleNamespace(records=world.records, app=None, host=SimpleNamespace(name="here"))
    ringing._order = partial(Farmhand._order, cast("Farmhand", ringing))
    job = world.records.job(JOB)
    assert job
    Farmhand.ring(cast("Farmhand", ringing), job)
    assert Order.model_validate(sent[0]).params.model_dump(exclude_none=True) == words | {
        "argv": ("make", "test")
    }


def test_a_running_vm_whose_system_disk_is_full_is_told_of_and_renewed(world: World) -> None:
    world.make()
    world.redis.hset(vm_key(VM), "state", "running")
    full = FoundVm(vm_id=VM, generation=1, slot=2, alive=True, overlay=Overlay(percent=100, state="full"))
    sent = []
    for _ in range(2):
        world.clock += 6
        said = Inventory(at=world.clock, objects_at=world.clock, incarnation=ROOT, vms=(full,))
        world.redis.set(inventory_key("here"), said.model_dump_json())
        sent.append([*world.look()])
    assert sent == [[], [("restart", VM)]]
    told = [event for event in Events(world.redis).read(VM) if event.kind in ("full", "found")]
    assert [(event.kind, (event.error or {})["brief"]) for event in told] == [
        ("full", "its system disk's room for changes is 100 % used: writes fail"),
        ("found", "its system disk is full, and its guest cannot go on"),
    ]
