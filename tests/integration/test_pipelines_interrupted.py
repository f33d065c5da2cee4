"""Pipelines that somebody or something else gets in the way of: a user, a guest, a full disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from farm_box import Box, await_stage, delete_all, eventually
from faulty_farm import Fault, FaultyFarm
from test_pipelines import NOT_WAITING

from banger.contracts.errors import (
    BangerError,
    CancelledError,
    CapacityError,
    ConflictError,
    ImageDamagedError,
    InvalidInputError,
    NotFoundError,
    StageFailedError,
)
from banger.contracts.names import new_id
from banger.contracts.queues import BEGIN, work_queue
from banger.contracts.states import State
from banger.embedded.account import worker_account
from banger.events import Event
from banger.farm import Farm
from banger.images.catalogue import Catalogue
from banger.pipelines import RESTART, START, STOP, Pipeline

pytestmark = pytest.mark.integration

SMALL = 32 * 1024 * 1024


@pytest.mark.parametrize("stage", ["admit", "work_disk", "launch"])
def test_a_create_that_is_cancelled_in_the_middle_leaves_nothing(faulty: FaultyFarm, stage: str) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault(stage, "after", "hold"))
    submission = farm.submit_create(farm.spec("dev"))
    await_stage(submission, farm, stage)
    submission.cancel()
    faulty.mend()
    with pytest.raises(CancelledError):
        submission.wait()
    assert not faulty.box.traces()
    assert not farm.list()


def test_waiting_for_a_guest_ends_at_once_when_cancelled(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    submission = farm.submit_create(farm.spec("dev"))
    await_stage(submission, farm, "wait_ready")
    began = time.monotonic()
    submission.cancel()
    with pytest.raises(CancelledError, match="cancelled while the guest was booting"):
        submission.wait()
    assert time.monotonic() - began < 2
    assert not faulty.box.traces()


def test_a_guest_is_not_waited_for_without_its_vmm(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    submission = farm.submit_create(farm.spec("dev"))
    await_stage(submission, farm, "wait_ready")
    (launched,) = (e for e in farm.timeline("dev") if (e.stage, e.kind) == ("launch", "finished"))
    began = time.monotonic()
    os.kill(int(launched.data["pid"]), signal.SIGKILL)
    with pytest.raises(StageFailedError, match=r"^wait_ready failed: its VMM ended before its guest") as told:
        submission.wait()
    assert time.monotonic() - began < 20
    assert "its console" in told.value.details
    assert not faulty.box.traces()


def test_a_vm_is_deleted_while_its_create_is_at_it(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault("work_disk", "before", "hold"))
    submission = farm.submit_create(farm.spec("dev"))
    await_stage(submission, farm, "work_disk")
    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(farm.delete, "dev")
        eventually(lambda: farm.records.cancelled(submission.job))
        faulty.mend()
        deleting.result(timeout=20)
    assert not faulty.box.traces()
    assert not farm.list()


def test_of_two_creates_of_one_name_exactly_one_wins(faulty: FaultyFarm) -> None:
    farms = [Farm(faulty.box.settings) for _ in range(4)]

    def create(farm: Farm) -> BangerError | None:
        try:
            farm.create("dev", start=False)
        except BangerError as error:
            return error
        finally:
            farm.redis.close()
        return None

    with ThreadPoolExecutor(len(farms)) as pool:
        outcomes = list(pool.map(create, farms))
    assert outcomes.count(None) == 1
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert {type(error) for error in refused} == {ConflictError}
    assert {error.brief for error in refused} == {"a VM named 'dev' exists already"}
    assert [record.state for record in faulty.box.farm.list()] == [State.STOPPED]


def test_two_jobs_for_one_vm_do_not_mix(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    farm.create("dev", start=False)
    faulty.expect(Fault("attach_system_disk", "before", "hold"), NOT_WAITING)
    first = farm.submit(START, "dev")
    await_stage(first, farm, "attach_system_disk")
    with pytest.raises(ConflictError, match="dev is busy"):
        farm.start("dev")
    faulty.expect(NOT_WAITING)
    assert first.wait().state == State.RUNNING


def test_a_message_that_comes_three_times_acts_once(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault("admit", "before", "hold"))
    submission = farm.submit_create(farm.spec("dev"), start=False)
    await_stage(submission, farm, "admit")
    again = {"vm": submission.vm_id, "job": submission.job, "pipeline": "create-stopped", "params": {}}
    for _ in range(2):
        farm._send(BEGIN, work_queue(faulty.box.settings.host), again)
    faulty.mend()
    assert submission.wait().state == State.STOPPED
    finished = [e.stage for e in farm.timeline("dev") if e.kind == "finished"]
    assert finished == ["reserve", "admit", "overlay", "work_disk"]


@pytest.mark.parametrize("pipeline", [STOP, RESTART], ids=lambda pipeline: pipeline.name)
def test_a_job_that_asks_what_no_stage_takes_fails_and_lets_go_of_its_vm(
    faulty: FaultyFarm, pipeline: Pipeline
) -> None:
    farm = faulty.box.farm
    faulty.expect(NOT_WAITING)
    record = farm.create("dev")
    job = new_id()
    faulty.box.admin.begin(record.id, job, pipeline, {"timeout_s": 10**6})  # as an order that was let through
    order = {"vm": record.id, "job": job, "pipeline": pipeline.name, "params": {}}
    farm._send(BEGIN, work_queue(faulty.box.settings.host), order)
    eventually(lambda: farm.records.find("dev").state == State.ERROR, 30)
    assert (farm.records.find("dev").error or {})["stage"] == "guest_shutdown"
    farm.delete("dev")
    assert not faulty.box.traces()


def test_a_guest_that_hangs_is_killed_when_its_time_to_stop_is_over(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    faulty.expect(NOT_WAITING)
    events: list[Event] = []
    farm.create("dev", on_event=events.append)
    vmm = next(int(e.data["pid"]) for e in events if (e.stage, e.kind) == ("launch", "finished"))
    os.kill(vmm, signal.SIGSTOP)
    events.clear()
    began = time.monotonic()
    assert farm.stop("dev", timeout_s=1.5, on_event=events.append).state is State.STOPPED
    assert time.monotonic() - began < 15  # which is far from what a guest is given otherwise
    assert [e.data for e in events if (e.stage, e.kind) == ("guest_shutdown", "finished")] == [
        {"graceful": False}
    ]
    assert not [line for line in faulty.box.traces() if line.startswith("process")]


@pytest.mark.parametrize("stage", ["overlay", "work_disk"])
def test_a_disk_that_gets_full_in_the_middle_is_said_and_unwound(faulty: FaultyFarm, stage: str) -> None:
    """The overlay may run into it, or foresee it: ext4 keeps some blocks back, so a key may still fit."""
    farm, vms = faulty.box.farm, faulty.box.paths.vms
    with small_disk(faulty.box):
        faulty.expect(Fault(stage, "before", "hold"))
        submission = farm.submit_create(farm.spec("dev"))
        await_stage(submission, farm, stage)
        fill(vms / "filler")
        faulty.mend()
        with pytest.raises(CapacityError, match=f"^{stage} failed: The disk is full"):
            submission.wait()
        (vms / "filler").unlink()
        assert not faulty.box.traces()
        error = farm.show("dev").error
        assert error is not None
        assert (error["stage"], error["kind"]) == (stage, "CapacityError")


def test_an_image_that_is_not_what_was_built_is_refused(faulty: FaultyFarm) -> None:
    box = faulty.box
    rootfs = box.paths.rootfs(Catalogue(box.paths).resolve("micro").id)
    with rootfs.open("r+b") as file:
        file.seek(2048)
        right = file.read(1)
        file.seek(2048)
        file.write(bytes([right[0] ^ 1]))
    try:
        with pytest.raises(ImageDamagedError, match=r"rootfs\.ext4 is not what was built"):
            box.farm.create("dev")
        assert not box.traces()
    finally:
        with rootfs.open("r+b") as file:
            file.seek(2048)
            file.write(right)
    assert box.farm.create("dev", start=False).state is State.STOPPED


@pytest.mark.parametrize(
    ("wanted", "error", "brief"),
    [
        ({"image": "no-such"}, NotFoundError, "no host has an image 'no-such'"),
        ({"host": "no-such"}, NotFoundError, "there is no host 'no-such'"),
        ({"memory_mib": 0}, InvalidInputError, "not valid"),
        ({"disk_mib": -1}, InvalidInputError, "not valid"),
        ({"name": "Not_A_Label"}, InvalidInputError, "not a VM name"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(faulty: FaultyFarm, wanted, error, brief) -> None:
    with pytest.raises(error, match=brief):
        faulty.box.farm.create(**({"name": "dev"} | wanted))
    assert not faulty.box.traces()
    assert not faulty.box.farm.list()


@contextlib.contextmanager
def small_disk(box: Box) -> Iterator[None]:
    """Put a small file system in the place where VMs' files are kept."""
    backing, vms = box.root / "small.ext4", box.paths.vms
    account = worker_account(box.settings)
    backing.touch()
    os.truncate(backing, SMALL)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", backing], check=True)
    subprocess.run(["mount", "-o", "loop", backing, vms], check=True)
    try:
        (vms / "lost+found").rmdir()
        os.chown(vms, account.pw_uid, account.pw_gid)
        vms.chmod(0o711)
        yield
    finally:
        delete_all(box)
        subprocess.run(["umount", vms], check=True)
        backing.unlink()


def fill(path: Path) -> None:
    """Write a file until there is no room for another byte of it."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
