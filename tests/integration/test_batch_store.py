"""Each transaction of a batch on a real Redis: what it changes, and that who comes second changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from batch_facts import BATCH, batch, plan

from banger.batch.judging import Outcome, after, dropped
from banger.batch.plan import Plan
from banger.batch.state import BatchInfo, JobState, Verdict
from banger.batch.store import Batches
from banger.batch.vms import begun, placed, taken_back
from banger.batch_keys import ACTIVE_BATCHES, ALL_BATCHES, batch_events_key, batch_key, times_key
from banger.connection import FarmRedis
from banger.contracts.errors import CancelledError, ConflictError, NotFoundError, StageFailedError
from banger.contracts.journal import ENDED_TTL_S, cancel_key, job_key

pytestmark = pytest.mark.integration

NOW = 1500.0
WHY = "no host can take this VM"


class Store:
    """The batches of a Redis, and a short way to bring a job of one somewhere."""

    def __init__(self, client: FarmRedis) -> None:
        self.batches = Batches(client)
        self.redis: Any = client

    def submit(self, count: int = 2, batch_id: str = BATCH, wanted: Plan | None = None) -> BatchInfo:
        info = batch(id=batch_id, total=count)
        jobs = [JobState(index=index, title=f"job {index}") for index in range(count)]
        assert self.batches.submit(info, wanted or plan(count=count), jobs)
        return self.info(batch_id)

    def info(self, batch_id: str = BATCH) -> BatchInfo:
        info = self.batches.get(batch_id)
        assert info is not None
        assert sum(info.counts.values()) == info.total
        return info

    def taken(self, parallel: int = 100) -> JobState:
        (old,) = self.batches.waiting(BATCH)
        new = begun(self.info(), old, NOW)
        assert self.batches.take(BATCH, old, new, parallel)
        return new

    def running(self) -> JobState:
        old = self.taken()
        new = placed(old, "here")
        assert self.batches.placed(BATCH, old, new)
        return new

    def settled(self, old: JobState, verdict: Verdict = Verdict.PASSED) -> JobState:
        outcome = Outcome(verdict)
        new = after(old, outcome, plan(retries={"infra": 0}), self.info(), NOW, vm_runs=False)
        assert self.batches.settle(BATCH, old, new, NOW)
        return new

    def words(self) -> list[str]:
        events = self.redis.xrange(batch_events_key(BATCH))
        return [fields["batch"] for _, fields in events if "batch" in fields]

    def counts(self) -> dict[str, int]:
        return {phase: number for phase, number in self.info().counts.items() if number}

    def ttls(self) -> set[int]:
        keys = self.redis.keys("banger:batch:*")
        return {self.redis.ttl(key) for key in keys}


@pytest.fixture
def store(redis_client: FarmRedis) -> Store:
    return Store(redis_client)


# --- submitting and reading ------------------------------------------------------------------------


def test_a_batch_is_there_as_it_was_submitted(store: Store) -> None:
    wanted = plan(count=3, env={"A": "b"}, max_parallel=2)
    info = store.submit(3, wanted=wanted)
    assert info == batch(total=3, counts={"waiting": 3})
    assert store.batches.plan(BATCH) == wanted
    assert [job.index for job in store.batches.jobs(BATCH)] == [0, 1, 2]
    assert store.batches.job(BATCH, 2).title == "job 2"
    assert [job.index for job in store.batches.waiting(BATCH, 2)] == [0, 1]
    assert store.batches.going(BATCH) == []
    assert [one.id for one in store.batches.active()] == [one.id for one in store.batches.all()] == [BATCH]
    assert store.words() == ["submitted"]
    assert store.ttls() == {-1}


def test_submitted_again_it_is_the_same_batch(store: Store) -> None:
    store.submit(2)
    store.running()
    again = [JobState(index=0, title="another")]
    assert store.batches.submit(batch(total=1), plan(), again) is False
    assert store.counts() == {"waiting": 1, "running": 1}
    assert store.words() == ["submitted"]


def test_the_largest_batch_fits_one_transaction(store: Store) -> None:
    store.submit(10_000)
    assert store.counts() == {"waiting": 10_000}


def test_what_is_not_there_is_said_so(store: Store) -> None:
    assert store.batches.get(BATCH) is None
    for ask in (
        lambda: store.batches.find("tests"),
        lambda: store.batches.find(BATCH),
        lambda: store.batches.plan(BATCH),
        lambda: store.batches.job(BATCH, 0),
    ):
        with pytest.raises(NotFoundError):
            ask()
    assert store.batches.jobs(BATCH) == store.batches.waiting(BATCH) == store.batches.going(BATCH) == []


def test_a_name_is_its_youngest_batch(store: Store) -> None:
    for number, batch_id in enumerate(("a" * 12, "b" * 12)):
        store.batches.submit(batch(id=batch_id, created_at=1000.0 + number, total=1), plan(), [])
    assert store.batches.find("tests").id == "b" * 12
    assert store.batches.find("a" * 12).id == "a" * 12


# --- one job's way ---------------------------------------------------------------------------------


def test_a_job_goes_from_waiting_to_its_verdict_and_the_last_one_ends_the_batch(store: Store) -> None:
    store.submit(2)
    first = store.running()
    assert store.counts() == {"waiting": 1, "running": 1}
    assert store.batches.going(BATCH) == [first]
    store.settled(first)
    assert store.counts() == {"waiting": 1, "passed": 1}
    assert store.words() == ["submitted"]
    second = store.taken()
    assert store.counts() == {"starting": 1, "passed": 1}
    store.settled(second, Verdict.FAILED)  # before anybody noted where it runs
    info = store.info()
    assert (info.state, info.ended_at, info.done) == ("ended", NOW, 2)
    assert store.words() == ["submitted", "ended"]
    assert store.batches.active() == []
    assert store.batches.all() == [info]
    assert store.ttls() == {ENDED_TTL_S}
    assert not store.redis.exists(f"{batch_key(BATCH)}:waiting", f"{batch_key(BATCH)}:going")


def test_each_change_of_a_job_is_told(store: Store) -> None:
    store.submit(1)
    states = [begun_one := store.taken()]
    states.append(placed(begun_one, "here"))
    store.batches.placed(BATCH, *states)
    states.append(store.settled(states[-1]))
    events = store.redis.xrange(batch_events_key(BATCH))
    assert [JobState.model_validate_json(f["job"]) for _, f in events if "job" in f] == states


def test_a_job_that_is_taken_is_the_first_that_waits_and_no_other(store: Store) -> None:
    store.submit(2)
    second = store.batches.job(BATCH, 1)
    assert not store.batches.take(BATCH, second, begun(store.info(), second, NOW), 9)
    assert store.taken().index == 0


def test_no_more_are_taken_than_may_be_at_work(store: Store) -> None:
    store.submit(3)
    store.taken(parallel=2)
    store.running()
    (third,) = store.batches.waiting(BATCH)
    assert not store.batches.take(BATCH, third, begun(store.info(), third, NOW), 2)
    assert store.counts() == {"waiting": 1, "starting": 1, "running": 1}


def test_who_comes_second_changes_nothing(store: Store) -> None:
    store.submit(1)
    (old,) = store.batches.waiting(BATCH)
    mine, others = begun(store.info(), old, NOW), begun(store.info(), old, NOW)
    assert store.batches.take(BATCH, old, mine, 9)
    assert not store.batches.take(BATCH, old, others, 9)
    assert not store.batches.placed(BATCH, others, placed(others, "there"))
    assert not store.batches.give_back(BATCH, others, taken_back(others), WHY)
    assert not store.batches.settle(BATCH, others, dropped(others, store.info(), NOW), NOW)
    assert store.batches.going(BATCH) == [mine]
    ended = store.settled(mine)
    for _ in range(2):
        assert not store.batches.settle(BATCH, mine, ended, NOW)
        assert not store.batches.placed(BATCH, mine, placed(mine, "here"))
        assert not store.batches.give_back(BATCH, mine, taken_back(mine), WHY)
    assert store.words() == ["submitted", "ended"]


@pytest.mark.parametrize("ran", [False, True])
def test_a_job_that_is_given_back_is_first_again_and_says_why(store: Store, ran: bool) -> None:
    store.submit(2)
    old = store.running() if ran else store.taken()
    assert store.batches.give_back(BATCH, old, taken_back(old), WHY)
    assert store.counts() == {"waiting": 2}
    assert store.info().why == WHY
    assert store.batches.waiting(BATCH) == [JobState(index=0, title="job 0")]
    assert store.redis.get(cancel_key(old.job or "")) == "1"  # nobody who is late begins it
    store.taken()
    assert store.info().why is None


def test_a_job_that_has_begun_after_all_is_not_given_back(store: Store) -> None:
    store.submit(1)
    old = store.taken()
    store.redis.hset(job_key(old.job or ""), "state", "running")
    assert not store.batches.give_back(BATCH, old, taken_back(old), WHY)
    assert store.batches.going(BATCH) == [old]
    assert not store.redis.exists(cancel_key(old.job or ""))


def test_a_job_that_is_tried_again_waits_behind_the_others(store: Store) -> None:
    store.submit(2)
    old = store.running()
    new = after(old, Outcome(Verdict.INFRA_ERROR), plan(), store.info(), NOW, vm_runs=False)
    assert store.batches.settle(BATCH, old, new, NOW)
    assert [job.index for job in store.batches.waiting(BATCH, 9)] == [1, 0]
    assert store.counts() == {"waiting": 2}
    assert store.batches.job(BATCH, 0).attempt == 1


# --- cancelling ------------------------------------------------------------------------------------


def test_a_batch_that_is_cancelled_begins_nothing_and_ends_with_its_last_job(store: Store) -> None:
    store.submit(3)
    going, taken = store.running(), store.taken()
    store.batches.say_why(store.info(), WHY)
    assert store.batches.cancel(BATCH, "enough", NOW)
    assert not store.batches.cancel(BATCH, "once more", NOW)
    info = store.info()
    assert (info.state, info.reason, info.why) == ("cancelling", "enough", None)
    (waits,) = store.batches.waiting(BATCH)
    assert not store.batches.take(BATCH, waits, begun(info, waits, NOW), 9)
    retried = JobState(index=going.index, title=going.title, attempts=going.attempts)
    assert not store.batches.settle(BATCH, going, retried, NOW)  # none is tried again
    assert store.batches.give_back(BATCH, taken, taken_back(taken), WHY)
    store.batches.say_why(info, WHY)
    assert store.info().why is None
    for job in store.batches.waiting(BATCH, 9):
        assert store.batches.settle(BATCH, job, dropped(job, info, NOW), NOW)
    assert store.words() == ["submitted", "cancelling"]
    store.settled(going, Verdict.CANCELLED)
    assert store.info().state == "ended"
    assert store.counts() == {"cancelled": 3}
    assert store.words() == ["submitted", "cancelling", "ended"]
    assert not store.batches.cancel(BATCH, "too late", NOW)
    assert store.info().reason == "enough"


def test_a_failure_that_stops_the_others_does_so_in_the_same_breath(store: Store) -> None:
    store.submit(2)
    old = store.running()
    new = after(old, Outcome(Verdict.FAILED, 1), plan(), store.info(), NOW, vm_runs=False)
    assert store.batches.settle(BATCH, old, new, NOW, "fail_fast")
    assert (store.info().state, store.info().reason) == ("cancelling", "fail_fast")
    (last,) = store.batches.waiting(BATCH)
    assert store.batches.settle(BATCH, last, dropped(last, store.info(), NOW), NOW)
    assert store.words() == ["submitted", "cancelling", "ended"]


def test_a_cancel_that_overtakes_its_batch_is_heard(store: Store) -> None:
    assert not store.batches.cancel(BATCH, "enough", NOW)
    assert store.batches.get(BATCH) is None
    with pytest.raises(CancelledError):
        store.submit(1)
    assert store.batches.get(BATCH) is None
    assert store.batches.all() == store.batches.active() == []
    assert store.ttls() == {3600}


# --- again, and away ---------------------------------------------------------------------------------


def test_a_job_that_has_ended_waits_once_more_and_so_does_its_batch(store: Store) -> None:
    store.submit(2)
    failed = store.settled(store.running(), Verdict.FAILED)
    store.settled(store.running())
    assert store.info().state == "ended"
    new = JobState(index=failed.index, title=failed.title, attempts=failed.attempts)
    assert store.batches.again(BATCH, failed, new, 9000.0)
    assert not store.batches.again(BATCH, failed, new, 9000.0)
    info = store.info()
    assert (info.state, info.ended_at, info.reason, info.deadline_at) == ("running", None, None, 9000.0)
    assert store.counts() == {"waiting": 1, "passed": 1}
    assert [one.id for one in store.batches.active()] == [BATCH]
    assert store.ttls() == {-1}
    second = store.running()
    assert second.attempt == 2
    store.settled(second)
    assert store.counts() == {"passed": 2}
    assert store.words() == ["submitted", "ended", "ended"]
    assert store.ttls() == {ENDED_TTL_S}


def test_nothing_waits_again_in_a_batch_that_is_being_cancelled(store: Store) -> None:
    store.submit(2)
    ended = store.settled(store.running(), Verdict.FAILED)
    store.batches.cancel(BATCH, "enough", NOW)
    new = JobState(index=ended.index, title=ended.title)
    assert not store.batches.again(BATCH, ended, new, 9000.0)
    assert store.counts() == {"waiting": 1, "failed": 1}


def test_a_batch_that_has_ended_is_forgotten_whole_and_no_other(store: Store) -> None:
    store.submit(1)
    with pytest.raises(ConflictError):
        store.batches.forget(BATCH)
    store.settled(store.running())
    for _ in range(2):
        store.batches.forget(BATCH)
        assert not [key for key in store.redis.keys("banger:batch*") if not key.endswith("times:tests")]


def test_a_batch_that_redis_has_let_go_is_off_the_list(store: Store) -> None:
    store.submit(1)
    store.redis.delete(batch_key(BATCH))
    assert store.batches.all() == store.batches.active() == []
    store.batches.say_why(batch(), WHY)
    assert not store.redis.exists(batch_key(BATCH))  # nothing that would stay for ever
    store.batches.forget_expired()
    assert store.redis.zcard(ALL_BATCHES) == 0


def test_a_refusal_is_told_and_not_for_ever_where_there_is_no_batch(store: Store) -> None:
    store.batches.refuse(BATCH, StageFailedError("no"))
    assert store.redis.ttl(batch_events_key(BATCH)) == 3600
    store.submit(1)
    assert store.ttls() == {-1}
    store.batches.refuse(BATCH, StageFailedError("no"))
    assert store.ttls() == {-1}


def test_why_the_next_job_waits_is_noted_while_the_batch_runs(store: Store) -> None:
    info = store.submit(1)
    store.batches.say_why(info, WHY)
    assert store.info().why == WHY


def test_what_took_how_long_is_remembered_for_a_while(store: Store) -> None:
    store.batches.remember_times("tests", {})
    assert store.batches.times("tests") == {}
    store.batches.remember_times("tests", {"job:a": 1.23456, "job:b": 2.0})
    store.batches.remember_times("tests", {"job:b": 3.0})
    assert store.batches.times("tests") == {"job:a": 1.235, "job:b": 3.0}
    assert store.redis.ttl(times_key("tests")) > 0


def test_whether_a_vm_is_over_follows_from_its_job(store: Store) -> None:
    store.submit(1, wanted=plan(keep="always", keep_ttl_s=100))
    old = store.running()
    vm = old.vm or ""
    assert not store.batches.is_over(BATCH, 0, vm, 1e9)
    new = after(old, Outcome(Verdict.PASSED), plan(keep="always"), store.info(), NOW, vm_runs=True)
    store.batches.settle(BATCH, old, new, NOW)
    assert not store.batches.is_over(BATCH, 0, vm, NOW + 99)
    assert store.batches.is_over(BATCH, 0, vm, NOW + 101)
    assert not store.batches.is_over(BATCH, 1, vm, 1e9)
    store.batches.forget(BATCH)
    assert not store.batches.is_over(BATCH, 0, vm, 1e9)
    assert not store.redis.sismember(ACTIVE_BATCHES, BATCH)
