"""Workers and Redis that die, hang, are not there, or have very much to do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from farm_box import DEADLINE_S, Box, eventually
from faulty_farm import Fault, FaultyFarm

from banger.contracts.calls import StageCall
from banger.contracts.errors import UnavailableError
from banger.contracts.journal import job_key, leases_key, name_key, vm_events_key, vm_key
from banger.contracts.names import new_id
from banger.contracts.queues import CONTROL, root_queue
from banger.contracts.requests import ExecRequest, WaitReadyRequest
from banger.contracts.states import State
from banger.dispatch import celery_app, dispatch
from banger.farm import Farm
from banger.pipelines import CREATE_STOPPED, RUN
from banger.settings import Settings
from banger.ticket_keys import private_key

pytestmark = pytest.mark.integration

CROWD = 50


# --- who dies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("service", "stage"), [("worker", "overlay"), ("root-worker", "admit")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_in_a_stage_costs_time_and_nothing_else(faulty: FaultyFarm, service, stage, when):
    box = faulty.box
    before = box.pid(service)
    faulty.expect(Fault(stage, when, "die"))
    submission = box.farm.submit_create(box.farm.spec("dev"), start=False)
    eventually(lambda: not alive(before))
    faulty.mend()
    assert submission.wait().state == State.STOPPED
    assert box.pid(service) != before
    finished = [e.stage for e in box.farm.timeline("dev") if e.kind == "finished"]
    assert finished == ["reserve", "admit", "overlay", "work_disk"]
    box.farm.delete("dev")
    assert not box.traces()


def test_a_job_whose_first_message_was_lost_is_rung_again(faulty: FaultyFarm):
    records, vm_id = faulty.box.admin, new_id()
    host = records.hosts()[0]
    image = host.image("micro")
    assert image is not None
    # This is all that a reserve does before it rings, had its worker died in between.
    assert records.reserve(vm_id, new_id(), CREATE_STOPPED, faulty.box.farm.spec("dev"), host, image)
    eventually(lambda: faulty.box.farm.show("dev").state is State.STOPPED)


def test_what_is_no_message_at_all_is_passed_over(faulty: FaultyFarm):
    box = faulty.box
    before = box.pid("root-worker")
    box.admin.redis.lpush(root_queue(box.settings.host), "no message")
    assert box.farm.create("dev", start=False).state is State.STOPPED
    assert box.pid("root-worker") == before


# --- who is not there ----------------------------------------------------------------------------


def test_without_any_worker_a_create_says_which_queue_nobody_serves(redis_url, tmp_path):
    farm = Farm(Settings(redis_url=redis_url, state_dir=tmp_path))
    error = unavailable(lambda: farm.create("dev"), within_s=1)
    assert error.brief == f"nobody serves the queue {CONTROL}"
    assert "nothing was submitted" in error.details
    farm.redis.close()


def test_a_job_that_waits_for_a_stopped_worker_says_so_and_goes_on_with_it(faulty: FaultyFarm):
    box = faulty.box
    queue = root_queue(box.settings.host)
    with frozen(box.pid("root-worker")):
        box.admin.redis.delete(f"banger:serving:{queue}")  # it says so no more, and soon nobody else does
        submission = box.farm.submit_create(box.farm.spec("dev"), start=False)
        error = unavailable(submission.wait, within_s=5)
        assert error.brief == f"nobody serves the queue {queue}"
        assert submission.job in error.details
    assert submission.wait().state == State.STOPPED


@pytest.mark.parametrize("verb", ["list", "create", "show", "hosts"])
def test_redis_that_is_down_is_one_error_in_time(tmp_path, verb):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://:nobody-listens-here@127.0.0.1:{closed.getsockname()[1]}/0"
        farm = Farm(Settings(redis_url=url, state_dir=tmp_path))
        arguments = ("dev",) if verb in ("create", "show") else ()
        error = unavailable(lambda: getattr(farm, verb)(*arguments), within_s=3)
    assert error.brief == "Redis cannot be reached"
    assert "\n" not in error.brief
    assert "banger farm" in error.resolution


def test_a_wrong_password_is_one_error_in_time(redis_url, tmp_path):
    farm = Farm(
        Settings(redis_url=f"redis://:wrong-wrong-wrong-1@{redis_url.rpartition('@')[2]}", state_dir=tmp_path)
    )
    error = unavailable(farm.list, within_s=3)
    assert error.brief == "Redis refused the password"
    assert "wrong-wrong" not in str(error)


def test_a_farm_that_was_never_started_is_named(tmp_path):
    farm = Farm(Settings(state_dir=tmp_path))
    assert unavailable(farm.list, within_s=1).brief == "no farm is known here"


# --- who has much to do --------------------------------------------------------------------------


def test_fifty_waits_and_fifty_commands_leave_room_for_short_stages(faulty: FaultyFarm):
    box = faulty.box
    app = celery_app("tests", box.url("admin"))
    with mute_guest() as address, crowd(box, 2 * CROWD) as vms:
        for number, (vm_id, job) in enumerate(vms):
            of = {"vm_id": vm_id, "generation": 1, "address": address}
            if number % 2:
                call = a_call(box, job, "wait_ready", WaitReadyRequest(**of, timeout_s=60))
            else:
                call = a_call(box, job, "exec", ExecRequest(**of, argv=("true",), timeout_s=60))
            dispatch(app, [call], private_key(box.paths))
        eventually(lambda: started(box, vms) == 2 * CROWD)
        began = time.monotonic()
        box.farm.create("short", start=False)
        took_s = time.monotonic() - began
        assert sum(1 for vm_id, _ in vms if ended(box, vm_id)) == 0
        assert took_s < 5
    app.close()
    box.farm.delete("short")
    assert not box.traces()


# --- how -----------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process, and let it go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def unavailable(call: Callable[[], object], within_s: float) -> UnavailableError:
    """Return the error of a call that must fail with it in this time."""
    began = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        call()
    assert time.monotonic() - began < within_s
    return caught.value


@contextlib.contextmanager
def mute_guest() -> Iterator[str]:
    """Yield the address of a guest that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 22), backlog=1000):
        yield "127.0.0.1"


@contextlib.contextmanager
def crowd(box: Box, size: int) -> Iterator[list[tuple[str, str]]]:
    """Yield VM and job ids of records without anything behind them; their jobs are cancelled in the end."""
    records, client = box.admin, box.admin.redis
    host = records.hosts()[0]
    image = host.image("micro")
    assert image is not None
    vms = [(new_id(), new_id()) for _ in range(size)]
    for number, (vm_id, job) in enumerate(vms):
        spec = box.farm.spec(f"crowd-{number}", memory_mib=64)
        assert records.reserve(vm_id, job, RUN, spec, host, image)
        client.hset(job_key(job), "touched", str(int(time.time() * 1000) + 3_600_000))  # never rung again
        client.hdel(leases_key(box.settings.host), vm_id)  # nobody's room is taken: there are no guests
    try:
        yield vms
    finally:
        for _, job in vms:
            records.cancel(job)
        eventually(lambda: all(ended(box, vm_id) for vm_id, _ in vms), DEADLINE_S)
        for number, (vm_id, job) in enumerate(vms):
            client.delete(vm_key(vm_id), vm_events_key(vm_id), job_key(job), name_key(f"crowd-{number}"))


def a_call(box: Box, job: str, stage: str, request: WaitReadyRequest | ExecRequest) -> StageCall:
    """Return a job's only step."""
    return StageCall(
        job=job,
        pipeline=RUN.name,
        step="10",
        stage=stage,
        direction="do",
        host=box.settings.host,
        request=request.model_dump(mode="json"),
        fails_to="error",
    )


def started(box: Box, vms: list[tuple[str, str]]) -> int:
    return sum(1 for vm_id, _ in vms if any(e.kind == "started" for e in box.farm.events.read(vm_id)))


def ended(box: Box, vm_id: str) -> bool:
    return any(e.kind == "settled" for e in box.farm.events.read(vm_id))
