"""Whole pipelines through both queues, with real workers, where a stage fails."""

from __future__ import annotations

import itertools

import pytest
from farm_box import Box, eventually
from faulty_farm import Fault, FaultyFarm, When

from banger.contracts.errors import CapacityError, InvalidInputError, StageFailedError
from banger.contracts.names import new_id
from banger.contracts.states import State
from banger.events import Event
from banger.pipelines import CREATE_STOPPED

pytestmark = pytest.mark.integration

STAGES = [
    "admit",
    "overlay",
    "attach_system_disk",
    "patch_rootfs",
    "work_disk",
    "tap",
    "launch",
    "wait_ready",
]
NOT_WAITING = Fault("wait_ready", "before", "skip")  # the guest may boot, nobody waits for it
IMMORTAL = Fault("launch", "before", direction="undo")


@pytest.mark.parametrize(("stage", "when"), [*itertools.product(STAGES, ["before", "after"])])
def test_a_failed_create_leaves_nothing_but_its_reason(faulty: FaultyFarm, stage: str, when: When) -> None:
    faulty.expect(Fault(stage, when))
    with pytest.raises(StageFailedError, match=f"^{stage} failed: a test made this fail {when} its effect"):
        faulty.box.farm.create("dev")
    assert not faulty.box.traces()
    record = faulty.box.farm.show("dev")
    assert (record.state, record.slot, record.job) == (State.ERROR, None, None)
    assert record.error is not None
    assert record.error["stage"] == stage
    assert record.error["brief"] == f"a test made this fail {when} its effect"


def test_a_change_that_the_vms_vmm_cannot_do_is_refused_at_once(faulty: FaultyFarm) -> None:
    farm, records = faulty.box.farm, faulty.box.admin
    host, asked = records.hosts()[0], farm.spec("dev", vmm="firecracker")
    image = host.image("micro")
    assert image is not None
    assert records.reserve(new_id(), new_id(), CREATE_STOPPED, asked, host, image), "placed nowhere else"
    before = eventually(lambda: (found := farm.show("dev")).state is State.STOPPED and found)
    with pytest.raises(InvalidInputError, match="Firecracker gives a guest 32 vCPUs at most, not 40"):
        farm.set("dev", vcpus=40)
    assert farm.show("dev").rev == before.rev
    farm.delete("dev")


def test_a_vm_whose_vmm_works_nowhere_is_refused_before_it_is_made(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    (host,) = farm.hosts()
    assert host.vmm_obstacles is not None
    assert (host.vmms, host.default_vmm, host.accelerator) == (("qemu",), "qemu", "tcg")
    why = host.vmm_obstacles["firecracker"]
    assert why.startswith("it needs KVM")
    with pytest.raises(CapacityError) as caught:
        farm.create("dev", vmm="firecracker")
    assert caught.value.details == f"1 of 1: Firecracker cannot run this VM: {why}"
    with pytest.raises(CapacityError, match="QEMU does not limit a guest's network"):
        farm.create("dev", net_rate_mib_s=10)
    assert not farm.list()
    assert not faulty.box.traces()


def test_a_refused_reservation_leaves_no_record(faulty: FaultyFarm) -> None:
    faulty.expect(Fault("reserve", "before"))
    with pytest.raises(StageFailedError, match="a test made this fail before its effect"):
        faulty.box.farm.create("dev")
    assert not faulty.box.traces()
    assert not faulty.box.farm.list()


def test_an_ephemeral_vm_that_failed_is_gone_with_its_record(faulty: FaultyFarm) -> None:
    faulty.expect(Fault("launch", "after"))
    with pytest.raises(StageFailedError, match="launch failed"):
        faulty.box.farm.run(["true"])
    assert not faulty.box.traces()
    assert not faulty.box.farm.list()


def test_a_guest_that_does_not_answer_leaves_the_last_words_of_its_console(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault("wait_ready", "before", "hold"))
    submission = farm.submit_create(farm.spec("dev", ready_timeout_s=0.1))
    eventually(lambda: any(e.stage == "wait_ready" for e in farm.events.read(submission.vm_id)))
    with faulty.box.paths.serial_log(submission.vm_id).open("a") as console:
        console.write("Kernel panic - not syncing: as the test wants it\n")
    faulty.mend()
    with pytest.raises(StageFailedError, match=r"wait_ready failed: the guest did not answer") as caught:
        submission.wait()
    assert "Kernel panic - not syncing: as the test wants it" in caught.value.details
    assert not faulty.box.traces()


def test_the_name_of_a_failed_vm_is_free(faulty: FaultyFarm) -> None:
    faulty.expect(Fault("overlay", "before"))
    with pytest.raises(StageFailedError):
        faulty.box.farm.create("dev", start=False)
    faulty.mend()
    assert faulty.box.farm.create("dev", start=False).state is State.STOPPED
    assert faulty.box.farm.show("dev").state is State.STOPPED


@pytest.mark.parametrize("stage", ["attach_system_disk", "work_disk", "launch"])
def test_a_failed_start_keeps_the_disks_and_may_be_tried_again(faulty: FaultyFarm, stage: str) -> None:
    farm = faulty.box.farm
    vm_id = farm.create("dev", start=False).id
    disk = faulty.box.paths.work_disk(vm_id)
    content = disk.stat().st_ino
    faulty.expect(Fault(stage, "after"))
    with pytest.raises(StageFailedError, match=f"^{stage} failed"):
        farm.start("dev")
    assert farm.show("dev").state is State.ERROR
    assert not running(faulty.box)
    faulty.expect(NOT_WAITING)
    assert farm.start("dev").state is State.RUNNING
    assert disk.stat().st_ino == content
    farm.delete("dev")
    assert not faulty.box.traces()


def test_what_a_vmm_that_will_not_die_may_write_to_is_kept(faulty: FaultyFarm) -> None:
    box = faulty.box
    faulty.expect(NOT_WAITING)
    vm_id = box.farm.create("dev").id
    before = box.traces()
    faulty.expect(IMMORTAL)
    with pytest.raises(StageFailedError, match=r"^launch failed"):
        box.farm.delete("dev")
    assert box.traces() == before
    record = box.farm.show("dev")
    assert (record.id, record.state) == (vm_id, State.ERROR)
    faulty.mend()
    box.farm.delete("dev")
    assert not box.traces()
    assert not box.farm.list()


def test_a_create_whose_vmm_will_not_die_keeps_its_slot_until_it_is_deleted(faulty: FaultyFarm) -> None:
    box = faulty.box
    faulty.expect(Fault("wait_ready", "before"), IMMORTAL)
    events: list[Event] = []
    with pytest.raises(StageFailedError, match=r"^wait_ready failed"):
        box.farm.create("dev", on_event=events.append)
    assert [e.stage for e in events if e.kind == "failed"] == [
        "wait_ready",
        "launch",
        "tap",
        "work_disk",
        "attach_system_disk",
        "overlay",
        "admit",
        "reserve",
    ]
    record = box.farm.show("dev")
    assert (record.state, record.slot is None) == (State.ERROR, False)
    assert running(box)
    faulty.mend()
    box.farm.delete("dev")
    assert not box.traces()


def running(box: Box) -> list[str]:
    """Return what only a running VM has."""
    return [line for line in box.traces() if line.startswith(("process", "link", "nft", "neighbour"))]
