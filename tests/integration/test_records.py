"""The records and the journal's scripts, in a real Redis."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from farm_facts import IMAGE, JOB, VM, host, spec
from job_steps import carry_out, steps

from banger.connection import FarmRedis, connect
from banger.contracts.errors import (
    CancelledError,
    ConflictError,
    NotFoundError,
    StageFailedError,
    UnavailableError,
    WrongStateError,
)
from banger.contracts.journal import Journal, Verdict, cancel_key
from banger.contracts.names import new_id
from banger.contracts.states import State
from banger.events import Events
from banger.output import JobOutput, output_key
from banger.pipelines import CREATE, CREATE_STOPPED, DELETE, RUN, RUN_KEEP, SET, START, STOP, Pipeline
from banger.planning import unwinding_calls
from banger.records import Job, Records
from banger.submission import Submission
from workers.decisions import stands_still

pytestmark = pytest.mark.integration

A, B = ("0" * 12 + delivery * 12 for delivery in "ab")  # two deliveries to one worker


@pytest.fixture
def records(redis_client: FarmRedis) -> Records:
    return Records(redis_client)


@pytest.fixture
def journal(redis_client: FarmRedis) -> Journal:
    return Journal(redis_client)


def reserve(
    records: Records, vm: str = VM, job: str = JOB, pipeline: Pipeline = CREATE, **wanted: Any
) -> bool:
    params: dict[str, Any] = {"argv": ["true"], "timeout_s": 1} if pipeline in (RUN, RUN_KEEP) else {}
    return records.reserve(vm, job, pipeline, spec(**wanted), host(), IMAGE, **params)


def unwind(records: Records, journal: Journal, pipeline: Pipeline) -> None:
    record, job = records.get(VM), records.job(JOB)
    assert record
    assert job
    carry_out(journal, unwinding_calls(pipeline, record, job))


def test_a_vm_lives_from_reservation_to_release(records: Records, journal: Journal) -> None:
    assert reserve(records)
    vm = records.find("dev")
    assert (vm.state, vm.slot, vm.address, vm.job) == (State.CREATING, 2, "172.16.0.2", JOB)
    carry_out(journal, steps(records, CREATE))
    vm = records.find(VM)
    assert (vm.state, vm.job) == (State.RUNNING, None)
    records.begin(VM, "c" * 12, DELETE, {})
    carry_out(journal, steps(records, DELETE, "c" * 12))
    with pytest.raises(NotFoundError):
        records.find("dev")
    assert records.used("here").slots == 0
    assert [e.state for e in Events(records.redis).read(VM) if e.kind == "settled"] == ["running", "gone"]


def test_of_two_creates_of_one_name_at_one_moment_exactly_one_wins(records: Records, redis_url: str) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(16)

    def create() -> None:
        mine = Records(connect(redis_url))
        start.wait()
        try:
            reserve(mine, new_id(), new_id())
            outcomes.append("won")
        except ConflictError:
            outcomes.append("taken")
        finally:
            mine.redis.close()

    threads = [threading.Thread(target=create) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["taken"] * 15 + ["won"]
    assert records.used("here").slots == 1


def test_slots_are_unique_and_used_again(records: Records) -> None:
    for number in range(16):
        assert reserve(records, new_id(), new_id(), name=f"vm{number}")
    assert sorted(vm.slot or 0 for vm in records.all()) == list(range(2, 18))


def test_a_reservation_beyond_capacity_writes_nothing(records: Records) -> None:
    assert not reserve(records, memory_mib=5000)
    assert records.all() == []
    assert records.job(JOB) is None


def test_a_reservation_that_is_delivered_twice_is_one(records: Records) -> None:
    assert reserve(records)
    assert reserve(records)
    assert records.used("here").slots == 1


def test_a_reservation_that_comes_again_after_its_vm_is_gone_changes_nothing(
    records: Records, journal: Journal
) -> None:
    reserve(records, pipeline=RUN, ephemeral=True)
    carry_out(journal, steps(records, RUN))
    assert records.all() == []
    assert reserve(records, pipeline=RUN, ephemeral=True)
    assert records.all() == []
    assert records.used("here").slots == 0


def test_a_job_that_is_cancelled_before_it_comes_is_refused(records: Records, journal: Journal) -> None:
    records.cancel(JOB)
    assert records.job(JOB) is None
    assert records.redis.ttl(cancel_key(JOB)) > 0
    with pytest.raises(CancelledError):
        reserve(records)
    assert records.all() == []
    assert reserve(records, job="c" * 12)
    carry_out(journal, steps(records, CREATE, "c" * 12))
    records.cancel("d" * 12)
    with pytest.raises(CancelledError):
        records.begin(VM, "d" * 12, STOP, {})
    assert records.find("dev").state is State.RUNNING


def test_a_job_that_undoes_things_is_not_cut_off(records: Records, journal: Journal) -> None:
    reserve(records)
    carry_out(journal, steps(records, CREATE))
    records.begin(VM, "c" * 12, DELETE, {})
    with pytest.raises(WrongStateError, match="a delete cannot be cancelled"):
        records.cancel("c" * 12)
    assert not records.cancelled("c" * 12)


def test_a_job_is_left_in_peace_for_a_while_after_it_began(records: Records, journal: Journal) -> None:
    reserve(records)
    assert not stands_still(known_job(records), time.time())
    carry_out(journal, steps(records, CREATE))
    records.begin(VM, "c" * 12, STOP, {})
    assert not stands_still(known_job(records, "c" * 12), time.time())


def test_a_job_that_waits_behind_others_is_rung_ever_less_until_it_goes_on(
    records: Records, journal: Journal
) -> None:
    reserve(records)
    now = time.time()
    assert stands_still(known_job(records), now + 31)
    records.rang(JOB)
    assert not stands_still(known_job(records), now + 31)
    assert stands_still(known_job(records), now + 65)
    journal.claim(steps(records, CREATE)[0], "t")
    assert known_job(records).rings == 0


def known_job(records: Records, job: str = JOB) -> Job:
    found = records.job(job)
    assert found
    return found


def test_a_step_is_claimed_by_one_at_a_time(records: Records, journal: Journal) -> None:
    reserve(records)
    call = steps(records, CREATE)[0]
    assert journal.claim(call, A).verdict is Verdict.GO
    assert journal.claim(call, B).verdict is Verdict.BUSY
    assert not journal.finished(call, B, 1.0, None)
    assert journal.finished(call, A, 1.0, None)
    assert journal.claim(call, B).verdict is Verdict.DONE


def test_what_a_dead_worker_had_claimed_is_taken_over_at_once(records: Records, redis_client: Any) -> None:
    reserve(records)
    call = next(call for call in steps(records, CREATE) if call.stage == "wait_ready")
    dead, alive = Journal(redis_client), Journal(redis_client)
    old = dead.new_token()
    dead.claim(call, old)
    claim = alive.claim(call, alive.new_token())
    assert (claim.verdict, claim.attempt) == (Verdict.GO, 2)
    assert alive.claim(call, alive.new_token()).verdict is Verdict.BUSY
    assert not dead.finished(call, old, 1.0, None)


def test_a_job_stands_still_when_who_claimed_its_step_has_died(records: Records, journal: Journal) -> None:
    reserve(records)
    journal.claim(steps(records, CREATE)[0], journal.new_token())
    job, now = known_job(records), time.time()
    assert not stands_still(job, now, {journal.incarnation}, at_once=True)
    assert not stands_still(job, now, None, at_once=True)
    assert stands_still(job, now, {"a" * 12}, at_once=True)
    assert not stands_still(job, now, {"a" * 12})
    assert stands_still(job, now + 31, {"a" * 12})


def test_a_claim_that_is_given_back_was_no_attempt(records: Records, journal: Journal) -> None:
    reserve(records, pipeline=RUN)
    call = next(call for call in steps(records, RUN) if call.stage == "exec")
    assert call.table_row.attempts == 1
    journal.claim(call, A)
    assert not journal.release(call, B)
    assert journal.release(call, A)
    claim = journal.claim(call, B)
    assert (claim.verdict, claim.attempt) == (Verdict.GO, 1)
    assert not journal.finished(call, A, 1.0, None)


def test_an_expired_claim_is_taken_over_a_bounded_number_of_times(records: Records, journal: Journal) -> None:
    reserve(records)
    call = steps(records, CREATE)[0]
    for attempt in (1, 2, 3):
        claim = journal.claim(call, f"t{attempt}")
        assert (claim.verdict, claim.attempt) == (Verdict.GO, attempt)
        records.redis.hset(f"banger:job:{JOB}", f"s:{call.step}", f"t{attempt}|1|{attempt}")
    assert journal.claim(call, "t4").verdict is Verdict.EXHAUSTED


def test_an_older_generation_is_fenced(records: Records, journal: Journal) -> None:
    reserve(records)
    call = steps(records, CREATE)[0]
    records.redis.hset(f"banger:vm:{VM}", "generation", 2)
    assert journal.claim(call, A).verdict is Verdict.OVER


def test_a_failed_create_frees_name_and_slot_and_keeps_the_story(records: Records, journal: Journal) -> None:
    reserve(records)
    first, second, *_ = steps(records, CREATE)
    carry_out(journal, [first])
    journal.claim(second, "t")
    journal.failed(second, "t", 1.0, StageFailedError("disk full", resolution="make room"))
    assert journal.claim(steps(records, CREATE)[2], "t").verdict is Verdict.UNWINDING
    unwind(records, journal, CREATE)
    vm = records.find("dev")
    assert (vm.state, vm.slot, vm.job) == (State.ERROR, None, None)
    assert vm.error
    assert (vm.error["brief"], vm.error["stage"]) == ("disk full", "overlay")
    assert reserve(records, new_id(), new_id()), "the name is free again"
    with pytest.raises(WrongStateError):
        records.begin(VM, "d" * 12, START, {})


def test_an_undo_that_fails_keeps_the_slot(records: Records, journal: Journal) -> None:
    reserve(records)
    call = steps(records, CREATE)[0]
    journal.claim(call, "t")
    journal.failed(call, "t", 1.0, StageFailedError("no"))
    record, job = records.get(VM), records.job(JOB)
    assert record
    assert job
    kill, *rest = unwinding_calls(CREATE, record, job)
    journal.claim(kill, "t")
    journal.failed(kill, "t", 1.0, StageFailedError("would not die"))
    for call in rest:
        if call.requires:
            assert journal.claim(call, "t").verdict is Verdict.BLOCKED
            journal.failed(call, "t", 0.0, StageFailedError("not attempted"))
    vm = records.find("dev")
    assert (vm.state, vm.slot) == (State.ERROR, 2)


def test_a_cancelled_run_is_gone(records: Records, journal: Journal) -> None:
    reserve(records, pipeline=RUN, ephemeral=True)
    records.cancel(JOB)
    call = steps(records, RUN)[0]
    assert journal.claim(call, "t").verdict is Verdict.CANCELLED
    journal.failed(call, "t", 1.0, StageFailedError("cancelled"))
    unwind(records, journal, RUN)
    assert records.all() == []


def test_a_vm_has_one_job_at_a_time_in_a_state_that_allows_it(records: Records, journal: Journal) -> None:
    reserve(records)
    with pytest.raises(ConflictError, match="busy"):
        records.begin(VM, "c" * 12, STOP, {})
    carry_out(journal, steps(records, CREATE))
    with pytest.raises(WrongStateError, match="set needs it stopped"):
        records.begin(VM, "c" * 12, SET, {})
    assert records.begin(VM, "c" * 12, STOP, {}).state is State.STOPPING
    assert records.begin(VM, "c" * 12, STOP, {}).job == "c" * 12, "the same job may ring again"


def test_a_start_is_a_new_generation(records: Records, journal: Journal) -> None:
    reserve(records)
    carry_out(journal, steps(records, CREATE))
    records.begin(VM, "c" * 12, STOP, {})
    carry_out(journal, steps(records, STOP, "c" * 12))
    assert records.begin(VM, "e" * 12, START, {}).generation == 2


def test_all_that_a_command_printed_comes_before_its_job_ends(records: Records, journal: Journal) -> None:
    reserve(records, pipeline=RUN_KEEP)
    output, lines = JobOutput(records.redis, JOB), [b"%d\n" % number for number in range(700)]
    for line in lines:
        output.emit("stdout", line)
    carry_out(journal, steps(records, RUN_KEEP))
    said: list[bytes] = []
    Submission(records.redis, VM, JOB, RUN_KEEP, "0").wait(on_output=lambda chunk: said.append(chunk.data))
    assert said == lines


def test_what_a_command_printed_is_not_kept_for_ever_by_a_worker_that_is_killed(records: Records) -> None:
    class DiesAfterOneCommand(FarmRedis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            super().execute_command(*args, **options)
            raise SystemExit

    client = DiesAfterOneCommand(connection_pool=records.redis.connection_pool)
    with pytest.raises(SystemExit):
        JobOutput(client, JOB).emit("stdout", b"x" * 40_000)
    assert records.redis.xlen(output_key(JOB)) == 1
    assert 0 < records.redis.ttl(output_key(JOB)) <= 900


@pytest.mark.parametrize(("pipeline", "state"), [(RUN_KEEP, State.RUNNING), (RUN, State.ERROR)])
def test_a_vm_that_is_to_be_kept_stays_when_its_command_fails(
    records: Records, journal: Journal, pipeline: Pipeline, state: State
) -> None:
    reserve(records, pipeline=pipeline)
    *before, command = steps(records, pipeline)[
        : [c.stage for c in steps(records, pipeline)].index("exec") + 1
    ]
    carry_out(journal, before)
    journal.claim(command, "t")
    journal.failed(command, "t", 1.0, StageFailedError("the connection was lost"))
    if pipeline is RUN:
        unwind(records, journal, RUN)
    vm = records.find("dev")
    assert (vm.state, vm.job) == (state, None)
    assert (vm.slot is None) is (pipeline is RUN)


def test_a_change_that_fails_leaves_the_vm_stopped(records: Records, journal: Journal) -> None:
    reserve(records, pipeline=CREATE_STOPPED)
    carry_out(journal, steps(records, CREATE_STOPPED))
    records.begin(VM, "c" * 12, SET, {"disk_mib": 9000})
    grow = steps(records, SET, "c" * 12)[0]
    journal.claim(grow, "t")
    journal.failed(grow, "t", 1.0, StageFailedError("no room"))
    vm = records.find("dev")
    assert (vm.state, vm.job, vm.error) == (State.STOPPED, None, None)


def test_a_stop_that_fails_ends_in_error_with_its_slot(records: Records, journal: Journal) -> None:
    reserve(records)
    carry_out(journal, steps(records, CREATE))
    records.begin(VM, "c" * 12, STOP, {})
    call = steps(records, STOP, "c" * 12)[0]
    journal.claim(call, "t")
    journal.failed(call, "t", 1.0, StageFailedError("no"))
    vm = records.find("dev")
    assert (vm.state, vm.slot, vm.job) == (State.ERROR, 2, None)


def test_a_wrong_password_and_a_dead_port_are_one_line_each() -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        connect("redis://:nobody-listens-here@127.0.0.1:1/0").ping()


def test_a_wrong_password_is_said_to_be_wrong(redis_url: str) -> None:
    client = connect(redis_url.replace("redis://:", "redis://:not"))
    with pytest.raises(UnavailableError, match="refused the password"):
        client.ping()
    client.close()
