"""Whole batches through real workers and a real Redis, with stubs for VMMs and a shell for each guest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_farm import ENDS_S, SMALL, BatchFarm, batch_farm_box
from farm_box import eventually

from banger.batch.judging import FAIL_FAST, TIMED_OUT
from banger.batch.orders import RetryBatch, SubmitBatch
from banger.batch.state import JobState, Verdict
from banger.batch_keys import answer_key
from banger.contracts.errors import CapacityError, ConflictError, InvalidInputError, NotFoundError
from banger.contracts.journal import (
    FARM_EVENTS,
    FARM_EVENTS_MAX,
    cancel_key,
    job_key,
    leases_key,
    name_key,
    serving_key,
    vm_events_key,
    vm_key,
)
from banger.contracts.names import new_id
from banger.contracts.queues import BATCH, CONTROL, root_queue, work_queue
from banger.contracts.states import State
from banger.records import HOSTS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

PASSED, FAILED, TIMED, INFRA, CANCELLED = Verdict
WIDE = SMALL | {"vcpus": 40}  # two of them are what batches may have of a host with 128
LOST_ONCE = 'mkdir "$ONCE-$BANGER_INDEX" 2>/dev/null && exit 255; exit 0'


@pytest.fixture(scope="module")
def one_farm() -> Iterator[BatchFarm]:
    with batch_farm_box() as farm:
        yield farm


@pytest.fixture
def farm(one_farm: BatchFarm) -> Iterator[BatchFarm]:
    try:
        yield one_farm
    finally:
        one_farm.let_go()
        one_farm.clear()


def verdicts(jobs: list[JobState]) -> list[Verdict | None]:
    return [job.verdict for job in jobs]


# --- verdicts ----------------------------------------------------------------------------------------


def test_each_job_ends_as_its_command_did_and_nothing_is_left(farm: BatchFarm) -> None:
    batch = farm.submit(
        'echo "this is $BANGER_INDEX of $BANGER_TOTAL"; [ "$BANGER_INDEX" -ne 2 ] || sleep 60',
        "exit $((BANGER_INDEX * 7))",
        count=3,
        timeout_s=3,
    )
    jobs = farm.ended(batch)
    assert verdicts(jobs) == [PASSED, FAILED, TIMED]
    assert [job.exit_code for job in jobs] == [0, 7, None]
    assert [job.reason for job in jobs[1:]] == [
        "run 2: exit $((BANGER_INDEX * 7))",
        'run 1: echo "this is $BANGER_INDEX of $BANGER_TOTAL"; [ "$BANGER_INDEX" -ne 2 ] || sleep 60',
    ]
    assert [job.attempt for job in jobs] == [1, 1, 1]
    assert all(job.host == "box" and job.attempts[0].ended_at for job in jobs)
    assert "O this is 0 of 3" in farm.log(batch)
    assert "N it did not end within 3 s" in farm.log(batch, 2)
    assert farm.words(batch) == ["submitted", "ended"]
    eventually(lambda: not farm.box.traces())
    assert not farm.box.farm.list()


def test_what_is_uploaded_is_there_and_what_is_made_comes_back(farm: BatchFarm, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "input").write_text("some words\n")
    batch = farm.submit(
        "cp src/input made.txt",
        directory=tmp_path,
        upload=["src"],
        artifacts=["*.txt", "none/**"],
        junit=["*.xml"],
    )
    (job,) = farm.ended(batch)
    assert (job.verdict, job.files) == (PASSED, {"artifacts": 1, "junit": 0})
    assert job.notes == ("junit: no file of the guest matches",)
    pieces = farm.box.farm.batches.pieces(job, batch, "artifacts.tar")
    assert b"some words" in b"".join(pieces)
    assert not farm.box.admin.redis.keys(answer_key("*"))  # a large file would be in Redis whole
    with pytest.raises(NotFoundError):
        list(farm.box.farm.batches.pieces(job, batch, "junit.tar"))


def test_a_secret_reaches_the_command_and_no_log_and_no_redis(farm: BatchFarm) -> None:
    secret = "open-" + new_id()
    plan = farm.plan('echo "it is $TOKEN"; [ -n "$TOKEN" ]', secrets={"TOKEN": {"env": "TOKEN"}})
    batch = farm.box.farm.batches.submit(plan, Path("/"), {"TOKEN": secret}).id
    (job,) = farm.ended(batch)
    assert job.verdict is PASSED
    assert "it is ***" in farm.log(batch)
    assert secret not in farm.log(batch)
    admin = farm.box.admin.redis
    for key in admin.scan_iter(match="banger*"):
        assert secret not in str(admin.dump(key)), key


def test_an_attempt_that_the_infrastructure_lost_is_made_again(farm: BatchFarm) -> None:
    batch = farm.submit(LOST_ONCE, count=2, env={"ONCE": f"{farm.guests}/once"})
    jobs = farm.ended(batch)
    assert verdicts(jobs) == [PASSED, PASSED]
    for job in jobs:
        assert [attempt.verdict for attempt in job.attempts] == [INFRA, PASSED]
        assert job.attempts[0].stage == "work"
        assert len({attempt.vm for attempt in job.attempts}) == 2
    eventually(lambda: not farm.box.traces())


def test_an_infrastructure_that_loses_it_every_time_is_its_verdict(farm: BatchFarm) -> None:
    (job,) = farm.ended(farm.submit("exit 255", retries={"infra": 1, "test": 5}))
    assert (job.verdict, job.stage, job.attempt, job.exit_code) == (INFRA, "work", 2, None)
    assert job.reason == "the connection to the guest failed"


def test_a_command_that_fails_is_run_again_only_where_the_plan_says_so(farm: BatchFarm) -> None:
    once = f"[ -e {farm.guests}/second ] || {{ touch {farm.guests}/second; exit 9; }}"
    (job,) = farm.ended(farm.submit(once, retries={"test": 1}))
    assert (job.verdict, [attempt.exit_code for attempt in job.attempts]) == (PASSED, [9, 0])


# --- stopping ------------------------------------------------------------------------------------------


def test_one_failure_stops_the_others_where_the_plan_says_so(farm: BatchFarm) -> None:
    batch = farm.submit(
        f"[ $BANGER_INDEX -ne 0 ] || exit 1; {farm.hold()}", count=4, max_parallel=2, fail_fast=True
    )
    jobs = farm.ended(batch)
    assert verdicts(jobs) == [FAILED, CANCELLED, CANCELLED, CANCELLED]
    assert {job.reason for job in jobs[1:]} == {FAIL_FAST}
    assert farm.words(batch) == ["submitted", "cancelling", "ended"]
    eventually(lambda: not farm.box.traces())


@pytest.mark.parametrize("keep", ["never", "always"])
def test_a_batch_that_is_cancelled_ends_what_runs_and_begins_no_more(farm: BatchFarm, keep: str) -> None:
    batch = farm.submit(farm.hold(), count=5, max_parallel=2, keep=keep)
    farm.wait(batch, running=2)
    farm.box.farm.batches.cancel(batch, "enough")
    jobs = farm.ended(batch)
    assert set(verdicts(jobs)) == {CANCELLED}
    assert {job.reason for job in jobs} == {"enough"}
    assert [job.attempt for job in jobs] == [1, 1, 0, 0, 0]
    assert not any(job.vm_kept for job in jobs)
    eventually(lambda: not farm.box.traces())
    with pytest.raises(ConflictError, match="ended already"):
        farm.box.farm.batches.cancel(batch)


def test_a_batch_that_waits_for_room_is_cancelled_at_once(farm: BatchFarm) -> None:
    holding = farm.submit(farm.hold(), count=2, vm=WIDE)
    farm.wait(holding, running=2)
    batch = farm.submit(count=300, vm=WIDE)
    eventually(lambda: farm.info(batch).why)
    farm.box.farm.batches.cancel(batch)
    assert set(verdicts(farm.ended(batch, 10.0))) == {CANCELLED}


def test_a_batch_that_takes_too_long_is_cut_off(farm: BatchFarm) -> None:
    batch = farm.submit(farm.hold(), count=3, max_parallel=1, batch_timeout_s=4)
    jobs = farm.ended(batch)
    assert verdicts(jobs) == [TIMED, CANCELLED, CANCELLED]
    assert {job.reason for job in jobs} == {TIMED_OUT}
    assert farm.info(batch).reason == TIMED_OUT


def test_a_job_whose_own_job_is_cancelled_ends_so_and_the_others_go_on(farm: BatchFarm) -> None:
    batch = farm.submit(farm.hold(), count=2, max_parallel=2)
    farm.wait(batch, running=2)
    farm.box.farm.records.cancel(farm.batches.job(batch, 0).job or "")
    farm.wait(batch, cancelled=1)
    farm.let_go()
    assert verdicts(farm.ended(batch)) == [CANCELLED, PASSED]


# --- keeping -------------------------------------------------------------------------------------------


def test_the_vm_of_a_failed_job_is_kept_for_a_while_and_that_of_a_passed_one_is_not(farm: BatchFarm) -> None:
    batch = farm.submit("exit $BANGER_INDEX", count=2, keep="on-failure", keep_ttl_s=6)
    passed, failed = farm.ended(batch)
    assert (passed.verdict, passed.vm_kept, failed.verdict, failed.vm_kept) == (PASSED, False, FAILED, True)
    records = farm.box.farm.records
    eventually(lambda: records.get(passed.vm or "") is None)
    kept = records.get(failed.vm or "")
    assert kept is not None
    assert (kept.state, kept.name) == (State.RUNNING, failed.vm_name)
    eventually(lambda: not farm.box.traces())
    assert time.time() > (failed.ended_at or 0) + 6


def test_what_never_had_a_guest_is_not_said_to_be_kept(farm: BatchFarm) -> None:
    batch = farm.submit(farm.hold(), keep="always", retries={"infra": 0}, vm=SMALL)
    farm.wait(batch, running=1)
    job = farm.batches.job(batch, 0)
    farm.box.admin.redis.set(cancel_key(job.job or ""), "a test made this fail")
    (job,) = farm.ended(batch)
    record = farm.box.farm.records.get(job.vm or "")
    assert job.vm_kept is (record is not None and record.state is State.RUNNING)


def test_a_vm_that_a_batch_has_forgotten_to_delete_is_found(farm: BatchFarm) -> None:
    batch = farm.submit(keep="always", keep_ttl_s=3600)
    (job,) = farm.ended(batch)
    assert job.vm_kept
    admin = farm.box.admin.redis
    lost = job.model_copy(update={"vm_kept": False})  # as if the order to delete it had been lost
    admin.hset(f"banger:batch:{batch}:jobs", "0", lost.to_json())
    eventually(lambda: not farm.box.traces())


# --- room ----------------------------------------------------------------------------------------------


def test_jobs_that_there_is_no_room_for_wait_in_order_and_say_why(farm: BatchFarm) -> None:
    batch = farm.submit(farm.hold("$BANGER_INDEX"), count=4, vm=WIDE)
    farm.wait(batch, running=2)
    why = eventually(lambda: farm.info(batch).why)
    assert "less than 40 vCPUs left" in why
    for index in range(4):
        assert [job.index for job in farm.batches.going(batch)] == [
            number for number in (index, index + 1) if number < 4
        ]
        farm.let_go(str(index))
        farm.wait(batch, passed=index + 1)
        if index < 2:
            farm.wait(batch, running=2)
    assert set(verdicts(farm.ended(batch))) == {PASSED}


def test_two_batches_share_what_room_there_is(farm: BatchFarm) -> None:
    first = farm.submit(farm.hold("first-$BANGER_INDEX"), count=6, vm=WIDE)
    farm.wait(first, running=2)
    second = farm.submit(farm.hold("second"), count=2, vm=WIDE)
    farm.let_go("first-0")
    farm.wait(second, running=1)
    assert farm.counts(first) == {"passed": 1, "running": 1, "waiting": 4}
    farm.let_go("first-1")
    eventually(lambda: farm.counts(first).get("passed") == 2 and farm.counts(first).get("running") == 1)
    assert farm.counts(second) == {"running": 1, "waiting": 1}
    farm.let_go("second")
    for index in range(2, 6):
        farm.let_go(f"first-{index}")
    assert set(verdicts(farm.ended(first) + farm.ended(second))) == {PASSED}


def test_a_single_vm_gets_through_while_a_batch_fills_the_host(farm: BatchFarm) -> None:
    batch = farm.submit(farm.hold(), count=10, vm=WIDE)
    eventually(lambda: farm.info(batch).why)
    vm = farm.box.farm.create("dev", **WIDE)
    assert vm.state is State.RUNNING
    assert farm.counts(batch) == {"running": 2, "waiting": 8}
    farm.box.farm.delete("dev")


def test_a_vm_that_would_never_find_room_is_refused_at_once(farm: BatchFarm) -> None:
    with pytest.raises(CapacityError) as caught:
        farm.submit(matrix={"axes": {"memory": ["64MiB", "900GiB"]}})
    assert "less than 900GiB of memory left" in caught.value.details
    with pytest.raises(NotFoundError, match="no host has an image 'other'"):
        farm.submit(image="other")
    with pytest.raises(CapacityError) as caught:
        farm.submit(vm=SMALL | {"vmm": "firecracker"})
    assert "1 of 1: Firecracker cannot run this VM: it needs KVM" in caught.value.details
    with pytest.raises(InvalidInputError, match="32 vCPUs at most, not 33"):
        farm.submit(vm=SMALL | {"vmm": "firecracker"}, matrix={"axes": {"vcpus": ["33"]}})
    assert farm.batches.all() == []


def test_a_batch_that_cannot_be_moved_on_holds_up_no_other(farm: BatchFarm) -> None:
    stuck = farm.submit(farm.hold())
    farm.wait(stuck, running=1)
    whole = farm.box.admin.redis.hget(f"banger:batch:{stuck}", "plan")
    farm.box.admin.redis.hset(f"banger:batch:{stuck}", "plan", "{}")
    farm.kill("worker")  # which knew the plan
    try:
        assert verdicts(farm.ended(farm.submit())) == [PASSED]
    finally:
        farm.box.admin.redis.hset(f"banger:batch:{stuck}", "plan", whole)
    farm.let_go()
    farm.ended(stuck)


# --- orders that come twice, late or to nobody -----------------------------------------------------------


def test_a_batch_that_is_submitted_twice_is_one(farm: BatchFarm) -> None:
    batch = new_id()
    order = SubmitBatch(batch=batch, plan=farm.plan(count=3), home="box").model_dump(mode="json")
    for _ in range(3):  # and nobody who submitted it waits for anything
        farm.box.farm._send(BATCH, CONTROL, order)
    eventually(lambda: farm.batches.get(batch))
    assert verdicts(farm.ended(batch)) == [PASSED] * 3
    farm.box.farm._send(BATCH, CONTROL, order)
    after = farm.submit()
    farm.ended(after)  # by now the order before it was seen to
    assert farm.words(batch) == ["submitted", "ended"]
    assert [info.id for info in farm.batches.all()] == [batch, after]


def test_those_that_failed_run_once_more_and_no_others(farm: BatchFarm) -> None:
    batch = farm.submit(f"[ -e {farm.guests}/mended ] || exit $BANGER_INDEX", count=3)
    assert verdicts(farm.ended(batch)) == [PASSED, FAILED, FAILED]
    farm.let_go("mended")
    farm.box.farm.batches.retry(batch, [1, 2, 2])
    farm.wait(batch, passed=3)
    jobs = farm.ended(batch)
    assert [job.attempt for job in jobs] == [1, 2, 2]
    assert farm.words(batch) == ["submitted", "ended", "ended"]


def test_what_cannot_be_done_is_told_on_the_batchs_events(farm: BatchFarm) -> None:
    batch = farm.submit()
    farm.ended(batch)
    farm.box.farm._send(
        BATCH, CONTROL, RetryBatch(batch=batch, attempts={0: 1, 7: 1}).model_dump(mode="json")
    )
    events = farm.box.farm.redis
    key = f"banger:batch:{batch}:events"
    refused = eventually(lambda: [f["refused"] for _, f in events.xrange(key) if "refused" in f])
    assert "has no job 7" in refused[0]
    assert farm.words(batch) == ["submitted", "ended"]


def test_a_batch_that_is_forgotten_is_gone(farm: BatchFarm) -> None:
    batch = farm.submit(farm.hold())
    with pytest.raises(ConflictError):
        farm.box.farm.batches.forget(batch)
    farm.let_go()
    farm.ended(batch)
    farm.box.farm.batches.forget(batch)
    eventually(lambda: farm.batches.get(batch) is None)
    left = farm.box.admin.redis.keys(f"banger:batch:{batch}*")
    assert not left


# --- workers that die ------------------------------------------------------------------------------------


def test_fifty_jobs_get_their_verdict_though_both_workers_are_killed(farm: BatchFarm) -> None:
    batch = farm.submit(
        "sleep 0.3; exit $((BANGER_INDEX % 2))", count=50, max_parallel=8, retries={"infra": 5}
    )
    farm.wait(batch, passed=5, failed=5)
    farm.kill("worker", "root-worker")
    jobs = farm.ended(batch, 150.0)
    assert verdicts(jobs) == [PASSED, FAILED] * 25
    assert farm.words(batch) == ["submitted", "ended"]
    assert any(job.attempt > 1 for job in jobs)  # what was at work was lost, and is not a test's failure
    eventually(lambda: not farm.box.traces(), ENDS_S)
    assert not farm.box.farm.list()


# --- what it costs ---------------------------------------------------------------------------------------


def test_a_job_costs_redis_twenty_kib_at_most(farm: BatchFarm) -> None:
    """All keys together: the job's and its VM's, and its part of the batch's and of the farm's events."""
    batch = farm.submit(count=12, max_parallel=6, artifacts=["*.txt"])
    jobs = farm.ended(batch)
    eventually(lambda: not farm.box.traces())
    admin = farm.box.admin.redis
    ours = {batch, *(job.vm for job in jobs), *(job.job for job in jobs)}
    keys = [key for key in admin.scan_iter(match="banger:*", count=1000) if ours & {*key.split(":")}]
    used = sum(admin.memory_usage(key, samples=0) for key in keys)
    entry = admin.memory_usage(FARM_EVENTS, samples=0) / admin.xlen(FARM_EVENTS)
    of_all = min(
        FARM_EVENTS_MAX, 1000 * sum(admin.xlen(vm_events_key(job.vm or "")) for job in jobs) / len(jobs)
    )
    assert used / len(jobs) + entry * of_all / 1000 <= 20 * 1024


# --- a host that vanishes ----------------------------------------------------------------------------


def test_jobs_of_a_host_that_vanishes_are_carried_out_on_another(farm: BatchFarm) -> None:
    """The host is one in name alone: it is known and served, and then it is not."""
    admin = farm.box.admin
    here = next(host for host in admin.hosts() if host.name == "box")
    admin.publish_host(here.model_copy(update={"name": "away"}))
    queues = work_queue("away"), root_queue("away")
    for queue in queues:
        admin.redis.set(serving_key(queue), "1")
    batch = farm.submit("true", count=2, max_parallel=2)
    try:
        eventually(lambda: {job.host for job in farm.batches.going(batch)} >= {"away"})
        for queue in queues:
            admin.redis.delete(serving_key(queue))
        jobs = farm.ended(batch)
    finally:
        _forget_host(farm, "away")
    assert verdicts(jobs) == [PASSED, PASSED]
    lost = [job.attempts[0] for job in jobs if job.attempt == 2]
    assert lost, "some job was on it"
    for attempt in lost:
        assert (attempt.host, attempt.verdict, attempt.stage) == ("away", INFRA, "host")
        assert "host away has been away for" in (attempt.reason or "")
    assert {job.host for job in jobs} == {"box"}


def _forget_host(farm: BatchFarm, host: str) -> None:
    """Let nothing be known of a host that never was, nor of the VMs that were placed on it."""
    redis = farm.box.admin.redis
    for record in farm.box.farm.list():
        if record.host == host:
            redis.delete(
                vm_key(record.id), vm_events_key(record.id), name_key(record.name), job_key(record.job)
            )
    redis.hdel(HOSTS, host)
    redis.delete(
        leases_key(host), work_queue(host), *(serving_key(q) for q in (work_queue(host), root_queue(host)))
    )
