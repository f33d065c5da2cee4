"""Steps that wait for guests, in a real worker of few threads: none is lost, whatever has no room for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery.contrib.testing.worker import start_worker
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from farm_facts import IMAGE, host, spec
from faulty_farm import FaultyFarm

from banger.contracts.calls import StageCall
from banger.contracts.names import new_id
from banger.contracts.queues import CONTROL, work_queue
from banger.contracts.requests import StageRequest
from banger.contracts.runner import HandOverError
from banger.dispatch import dispatch
from banger.pipelines import RUN_KEEP
from banger.planning import calls
from banger.records import Records
from banger.settings import Settings
from workers import capacity, farmhand
from workers.app import make_app
from workers.stages import EFFECTS

pytestmark = pytest.mark.integration

DEADLINE_S = 10


class Guests:
    """Commands in guests that are not there: each is begun, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.end = threading.Event()
        self.hand_over_once = False

    def exec(self, request: StageRequest, _context: object) -> dict[str, Any]:
        self.begun.append(request.vm_id)
        if self.hand_over_once:
            self.hand_over_once = False
            raise HandOverError
        assert self.end.wait(DEADLINE_S)
        return {"exit_code": 0}


class Worker(NamedTuple):
    app: Any
    records: Records
    guests: Guests

    def run(self, name: str) -> str:
        """Let a command be run in a VM of this name, whose other stages are over; return the VM's id."""
        vm_id, job_id = new_id(), new_id()
        params: dict[str, Any] = {"argv": ["true"], "timeout_s": 60}
        assert self.records.reserve(vm_id, job_id, RUN_KEEP, spec(name=name), host(), IMAGE, **params)
        record, job = self.records.get(vm_id), self.records.job(job_id)
        assert record
        assert job
        steps = calls(RUN_KEEP, record, job, host().network, host().uid_base)
        dispatch(self.app, [self.last(steps)], Ed25519PrivateKey.generate())  # it is not root who is asked
        return vm_id

    @staticmethod
    def last(steps: list[StageCall]) -> StageCall:
        assert steps[-1].stage == "exec"
        return steps[-1]


@pytest.fixture
def worker(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Yield a worker with one thread for commands."""
    guests = Guests()
    monkeypatch.setitem(EFFECTS, ("exec", "do"), guests.exec)
    monkeypatch.setattr(capacity, "_SHORT_THREADS", 3)
    settings = Settings(host="here", redis_url=redis_url, state_dir=tmp_path, worker_threads=4)
    app = make_app(settings)
    with start_worker(
        app,
        pool="threads",
        concurrency=4,
        queues=(work_queue(settings.host), CONTROL),
        perform_ping_check=False,
        loglevel="ERROR",
    ):
        try:
            yield Worker(app, guests=guests, records=farmhand.Farmhand(app, settings).records)
        finally:
            guests.end.set()


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_without_a_thread_waits_for_one(worker: Worker) -> None:
    vms = [worker.run(f"vm{number}") for number in range(3)]
    eventually(lambda: worker.guests.begun)
    time.sleep(3 * farmhand._NO_THREAD_PAUSE_S)
    assert len(worker.guests.begun) == 1
    worker.guests.end.set()
    eventually(lambda: sorted(worker.guests.begun) == sorted(vms))
    eventually(lambda: all(str(vm.state) == "running" for vm in worker.records.all()))


def test_a_step_that_is_handed_over_is_begun_anew(worker: Worker) -> None:
    worker.guests.hand_over_once = True
    vm_id = worker.run("dev")
    eventually(lambda: worker.guests.begun == [vm_id, vm_id])
    worker.guests.end.set()
    eventually(lambda: str(worker.records.find("dev").state) == "running")


def test_a_create_outlives_the_worker_that_waits_for_its_guest(faulty: FaultyFarm) -> None:
    box = faulty.box
    before = box.pid("worker")
    submission = box.farm.submit_create(box.farm.spec("dev"))

    def waits_begun() -> int:
        return sum(
            (e.stage, e.kind) == ("wait_ready", "started") for e in box.farm.events.read(submission.vm_id)
        )

    eventually(waits_begun)
    os.kill(before, signal.SIGTERM)  # as `banger farm down` does; the supervisor starts another
    assert str(submission.wait().state) == "running"
    assert box.pid("worker") != before
    assert waits_begun() == 2
