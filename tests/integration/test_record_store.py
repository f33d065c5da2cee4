"""What the record store refuses, whoever asks: illegal states, late reports, copies that are too old."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from farm_facts import IMAGE, JOB, VM, host, spec
from job_steps import carry_out, steps

from banger.connection import FarmRedis
from banger.contracts.errors import ConflictError, NotFoundError, StageFailedError, WrongStateError
from banger.contracts.journal import Journal, Verdict, job_key, name_key, vm_events_key, vm_key
from banger.contracts.states import MOVE, TRANSITIONS, State, Transition
from banger.events import Events
from banger.pipelines import CREATE, CREATE_STOPPED, DELETE, KILL, START, STOP
from banger.planning import unwinding_calls
from banger.records import Record, Records

pytestmark = pytest.mark.integration

OTHER, LATER = "c" * 12, "d" * 12
NOTHING_THERE = StageFailedError("the host has nothing of it")


@pytest.fixture
def records(redis_client: FarmRedis) -> Records:
    return Records(redis_client)


@pytest.fixture
def journal(redis_client: FarmRedis) -> Journal:
    return Journal(redis_client)


def reserve(records: Records, vm: str = VM, job: str = JOB, **wanted: Any) -> None:
    assert records.reserve(vm, job, CREATE_STOPPED, spec(**wanted), host(), IMAGE)


def make(records: Records, journal: Journal, vm: str = VM, job: str = JOB, **wanted: Any) -> Record:
    reserve(records, vm, job, **wanted)
    carry_out(journal, steps(records, CREATE_STOPPED, job, vm))
    return now(records, vm)


def now(records: Records, vm: str = VM) -> Record:
    record = records.get(vm)
    assert record
    return record


def everything(records: Records) -> dict[str, Any]:
    """Return all that is stored of VMs, jobs, names and leases, but for what happened."""
    redis = records.redis
    kept = [key for key in redis.keys("banger:*") if redis.type(key) != "stream"]
    return {key: redis.hgetall(key) if redis.type(key) == "hash" else redis.get(key) for key in kept}


def test_a_state_that_is_not_legal_is_refused_and_nothing_is_written(
    records: Records, journal: Journal
) -> None:
    make(records, journal)
    records.begin(VM, OTHER, KILL, {})
    *before, last = steps(records, KILL, OTHER)
    carry_out(journal, before)
    forged = last.model_copy(update={"final": "running"})
    journal.claim(forged, "t")
    stored, told = everything(records), len(Events(records.redis).read(VM))
    with pytest.raises(WrongStateError, match="stopping"):
        journal.finished(forged, "t", 1.0, None)
    assert (everything(records), len(Events(records.redis).read(VM))) == (stored, told)
    assert journal.finished(last, "t", 1.0, None)
    assert now(records).state is State.STOPPED


@pytest.mark.parametrize("cause", sorted({change.cause for change in TRANSITIONS}))
def test_of_all_changes_of_state_exactly_the_legal_ones_are_made(records: Records, cause: str) -> None:
    script = MOVE + "return move(KEYS[1], ARGV[1], ARGV[2]) or 'moved'"
    for before, after in itertools.product(State, State):
        there = {} if before is State.GONE else {"state": str(before), "rev": "6"}
        records.redis.delete("vm")
        if there:
            records.redis.hset("vm", mapping=there)
        said = records.redis.eval(script, 1, "vm", cause, str(after))
        if Transition(cause, before, after) in TRANSITIONS:
            assert said == "moved"
            assert records.redis.hgetall("vm") == {"state": str(after), "rev": "7" if there else "1"}
        else:
            assert said == str(before)
            assert records.redis.hgetall("vm") == there


def test_a_begin_into_a_state_that_is_not_legal_is_refused(records: Records, journal: Journal) -> None:
    make(records, journal)
    stored = everything(records)
    with pytest.raises(WrongStateError):
        records.begin(VM, OTHER, KILL._replace(during=State.CREATING), {})
    assert everything(records) == stored


def test_a_reservation_into_another_state_than_creating_is_refused(records: Records) -> None:
    with pytest.raises(WrongStateError, match="gone and cannot become running"):
        records.reserve(VM, JOB, CREATE._replace(during=State.RUNNING), spec(), host(), IMAGE)
    assert everything(records) == {}


def test_the_revision_counts_each_change_of_state(records: Records, journal: Journal) -> None:
    reserve(records)
    assert now(records).rev == 1
    carry_out(journal, steps(records, CREATE_STOPPED, JOB))
    assert now(records).rev == 2
    records.begin(VM, OTHER, KILL, {})
    records.begin(VM, OTHER, KILL, {})
    assert now(records).rev == 3
    assert records.lose(VM, 3, NOTHING_THERE) is False, "a job has it"
    carry_out(journal, steps(records, KILL, OTHER))
    assert records.lose(VM, 4, NOTHING_THERE)
    assert now(records).rev == 5


def test_a_report_that_comes_again_releases_nothing_of_the_next_ones(
    records: Records, journal: Journal
) -> None:
    make(records, journal)
    records.begin(VM, OTHER, DELETE, {})
    *before, last = steps(records, DELETE, OTHER)
    carry_out(journal, before)
    journal.claim(last, "t")
    assert journal.finished(last, "t", 1.0, None)
    make(records, journal, "e" * 12, "f" * 12)
    stored = everything(records)
    assert not journal.finished(last, "t", 1.0, None)
    assert journal.claim(last, "u").verdict is Verdict.OVER
    assert not journal.finished(last, "u", 1.0, None)
    assert everything(records) == stored
    assert (records.find("dev").id, records.used("here").slots) == ("e" * 12, 1)


def test_a_failed_create_that_is_settled_again_keeps_its_hands_off_the_names_new_owner(
    records: Records, journal: Journal
) -> None:
    reserve(records)
    first = steps(records, CREATE_STOPPED, JOB)[0]
    journal.claim(first, "t")
    journal.failed(first, "t", 1.0, StageFailedError("no"))
    job = records.job(JOB)
    assert job
    undo = unwinding_calls(CREATE_STOPPED, now(records), job)
    carry_out(journal, undo)
    make(records, journal, "e" * 12, "f" * 12)
    assert not journal.finished(undo[-1], "t", 1.0, None)
    assert (records.find("dev").id, now(records, "e" * 12).slot) == ("e" * 12, 2)
    records.begin(VM, OTHER, DELETE, {})
    carry_out(journal, steps(records, DELETE, OTHER))
    assert (records.find("dev").id, records.used("here").slots) == ("e" * 12, 1)


def test_a_step_that_ends_after_its_vm_was_restored_changes_nothing(
    records: Records, journal: Journal
) -> None:
    stopped = make(records, journal)
    records.begin(VM, OTHER, DELETE, {})
    *before, last = steps(records, DELETE, OTHER)
    carry_out(journal, before)
    journal.claim(last, "t")
    assert records.restore(stopped.model_copy(update={"rev": 9}), over=3)
    stored = everything(records)
    assert not journal.finished(last, "t", 1.0, None)
    assert journal.claim(last, "u").verdict is Verdict.OVER
    assert everything(records) == stored
    assert (records.find("dev").state, records.find("dev").rev) == (State.STOPPED, 9)
    assert records.redis.ttl(job_key(OTHER)) > 0


def test_a_step_that_ends_after_its_record_is_gone_brings_nothing_back(
    records: Records, journal: Journal
) -> None:
    reserve(records)
    first, *_, last = steps(records, CREATE_STOPPED, JOB)
    for call in (first, last):
        journal.claim(call, "t")
    records.redis.delete(vm_key(VM), vm_events_key(VM))
    stored = everything(records)
    for call in (first, last):
        assert not journal.finished(call, "t", 1.0, None)
        assert not journal.failed(call, "t", 1.0, StageFailedError("no"))
    assert everything(records) == stored
    assert not Events(records.redis).read(VM)


def test_a_step_that_ends_after_its_job_was_turned_round_changes_nothing(
    records: Records, journal: Journal
) -> None:
    reserve(records)
    first, *_, last = steps(records, CREATE_STOPPED, JOB)
    for call in (first, last):
        journal.claim(call, "t")
    journal.failed(first, "t", 1.0, StageFailedError("no"))
    stored = everything(records)
    assert not journal.finished(last, "t", 1.0, None)
    assert not journal.failed(last, "t", 1.0, StageFailedError("no"))
    assert everything(records) == stored


def test_what_is_lost_holds_nothing_and_can_only_be_deleted(records: Records, journal: Journal) -> None:
    made = make(records, journal)
    assert records.lose(VM, made.rev, NOTHING_THERE)
    lost = records.find("dev")
    assert (lost.state, lost.slot, lost.address, lost.job) == (State.LOST, None, None, None)
    assert lost.error
    assert lost.error["brief"] == "the host has nothing of it"
    assert records.redis.ttl(vm_key(VM)) > 0 < records.redis.ttl(vm_events_key(VM))
    assert Events(records.redis).read(VM)[-1].state == "lost"
    make(records, journal, "e" * 12, "f" * 12)
    assert now(records, "e" * 12).slot == made.slot, "name and slot are free"
    with pytest.raises(WrongStateError, match="is lost"):
        records.begin(VM, OTHER, START, {})
    records.begin(VM, LATER, DELETE, {})
    assert records.redis.ttl(vm_key(VM)) == -1, "it does not expire under a job"
    carry_out(journal, steps(records, DELETE, LATER))
    assert records.get(VM) is None
    assert records.find("dev").id == "e" * 12


def test_a_delete_of_what_is_lost_that_fails_leaves_what_goes_by_itself(
    records: Records, journal: Journal
) -> None:
    records.lose(VM, make(records, journal).rev, NOTHING_THERE)
    records.begin(VM, OTHER, DELETE, {})
    first = steps(records, DELETE, OTHER)[0]
    journal.claim(first, "t")
    journal.failed(first, "t", 1.0, StageFailedError("no"))
    vm = now(records)
    assert (vm.state, vm.slot) == (State.ERROR, None)
    assert vm.error
    assert (vm.error["pipeline"], vm.error["stage"]) == ("delete", first.stage)
    assert records.redis.ttl(vm_key(VM)) > 0


@pytest.mark.parametrize("rev", [0, 1, 3])
def test_what_has_changed_since_its_host_was_looked_at_is_not_lost(
    records: Records, journal: Journal, rev: int
) -> None:
    make(records, journal)
    stored = everything(records)
    assert records.lose(VM, rev, NOTHING_THERE) is False
    assert records.lose(OTHER, rev, NOTHING_THERE) is False
    assert everything(records) == stored


def test_what_is_lost_is_not_lost_again(records: Records, journal: Journal) -> None:
    records.lose(VM, make(records, journal).rev, NOTHING_THERE)
    with pytest.raises(WrongStateError, match="lost and cannot become lost"):
        records.lose(VM, now(records).rev, NOTHING_THERE)


def test_a_vm_whose_job_has_vanished_can_be_lost(records: Records) -> None:
    reserve(records)
    records.redis.delete(job_key(JOB))
    assert records.lose(VM, 1, NOTHING_THERE)
    assert now(records).state is State.LOST


def test_an_older_copy_is_replaced_only_while_it_is_the_one_that_was_seen(
    records: Records, journal: Journal
) -> None:
    old = make(records, journal)
    known_here = old.model_copy(update={"state": State.RUNNING, "rev": 8, "name": "renamed", "generation": 3})
    stored = everything(records)
    assert records.restore(known_here) is None
    assert records.restore(known_here, over=1) is None
    assert everything(records) == stored
    assert records.restore(known_here, over=2) == known_here
    assert records.find("renamed") == known_here
    assert records.redis.get(name_key("dev")) is None
    assert records.restore(known_here, over=2) is None, "once"


def test_a_restored_copy_is_younger_than_the_one_it_replaces(records: Records, journal: Journal) -> None:
    old = make(records, journal)
    restored = records.restore(old.model_copy(update={"state": State.ERROR, "rev": 1}), over=2)
    assert restored
    assert (restored.rev, now(records).rev, now(records).state) == (3, 3, State.ERROR)


def test_a_name_that_the_older_copy_gave_away_stays_its_new_owners(
    records: Records, journal: Journal
) -> None:
    old = make(records, journal)
    records.redis.delete(vm_key(VM), name_key("dev"))
    records.redis.hdel("banger:host:here:leases", VM)
    make(records, journal, "e" * 12, "f" * 12)
    with pytest.raises(ConflictError, match=r"slot 2 of here is VM e"):
        records.restore(old)
    restored = records.restore(old.model_copy(update={"slot": 7, "address": "172.16.0.7"}))
    assert restored
    assert (restored.name, now(records).name) == (f"dev-{VM}", f"dev-{VM}")
    assert (records.find("dev").id, records.find(f"dev-{VM}").id) == ("e" * 12, VM)


def test_what_is_restored_without_a_slot_holds_nothing(records: Records, journal: Journal) -> None:
    old = make(records, journal)
    bare = old.model_copy(update={"slot": None, "address": None, "state": State.ERROR})
    assert records.restore(bare, over=2)
    assert records.redis.get(name_key("dev")) is None
    assert records.used("here").slots == 0
    assert records.redis.ttl(vm_key(VM)) > 0
    make(records, journal, "e" * 12, "f" * 12)


def test_nothing_is_restored_to_being_on_its_way(records: Records, journal: Journal) -> None:
    old = make(records, journal)
    stored = everything(records)
    with pytest.raises(WrongStateError):
        records.restore(old.model_copy(update={"state": State.STARTING}), over=2)
    assert everything(records) == stored


def test_times_are_those_of_redis(
    records: Records, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.time()
    monkeypatch.setattr(time, "time", lambda: right + 86_400.0)
    made = make(records, journal)
    records.begin(VM, OTHER, STOP, {})
    records.rang(OTHER)
    job = records.job(OTHER)
    assert job
    for at in (made.created_at, records.now(), job.began_ms / 1000, job.touched_ms / 1000):
        assert right - 1 < at < right + 60


def test_who_asks_for_a_vm_that_is_not_there_is_told_each_name_once(
    records: Records, journal: Journal
) -> None:
    records.lose(OTHER, make(records, journal, OTHER, LATER).rev, NOTHING_THERE)  # its name is free again
    make(records, journal)
    assert now(records, OTHER).called == f"dev ({OTHER})"
    with pytest.raises(NotFoundError, match="there is no VM 'nosuch'") as refused:
        records.find("nosuch")
    assert refused.value.details == "VMs: dev"


# --- a reboot ------------------------------------------------------------------------------------


def taken_up(records: Records, boot: str, *again: str) -> None:
    job = records.job(JOB)
    assert job
    records.take_up(job, boot, again)


def test_a_step_is_not_begun_in_another_boot_than_its_jobs(records: Records, journal: Journal) -> None:
    assert records.reserve(VM, JOB, CREATE, spec(), host(), IMAGE)
    taken_up(records, journal.boot)
    stale = steps(records, CREATE, JOB)
    carry_out(journal, stale[:3])
    rebooted = Journal(records.redis, boot="the next one")
    assert rebooted.claim(stale[3], "t").verdict is Verdict.OVER
    taken_up(records, rebooted.boot, stale[1].step, stale[2].step)
    assert [rebooted.claim(call, "t").verdict for call in stale[:4]] == [Verdict.OVER] * 4, "an older start"
    assert [event.kind for event in Events(records.redis).read(VM)][-1] == "rebooted"
    anew = steps(records, CREATE, JOB)
    assert {call.generation for call in anew} == {2}
    claimed = [rebooted.claim(call, "t").verdict for call in anew[:3]]
    assert claimed == [Verdict.DONE, Verdict.GO, Verdict.GO]


def test_a_job_is_taken_up_once_a_boot_and_not_when_it_is_over(records: Records, journal: Journal) -> None:
    reserve(records)
    first = records.job(JOB)
    assert first
    records.take_up(first, "one", [])
    taken_up(records, "two", "01")
    stored = everything(records)
    late = first.model_copy(update={"boot": "one"})  # as somebody else has read it at the same time
    records.take_up(late, "two", ["02"])
    assert everything(records) == stored
    taken_up(records, journal.boot)
    carry_out(journal, steps(records, CREATE_STOPPED, JOB))
    stored = everything(records)
    taken_up(records, "three", "01")
    assert everything(records) == stored


def test_what_is_taken_back_goes_on_in_any_boot(records: Records, journal: Journal) -> None:
    reserve(records)
    taken_up(records, journal.boot)
    first = steps(records, CREATE_STOPPED, JOB)[0]
    journal.claim(first, "t")
    assert journal.failed(first, "t", 1.0, NOTHING_THERE)
    job = records.job(JOB)
    assert job
    undo = unwinding_calls(CREATE_STOPPED, now(records), job)
    carry_out(Journal(records.redis, boot="the next one"), undo)
    assert now(records).state is State.ERROR
