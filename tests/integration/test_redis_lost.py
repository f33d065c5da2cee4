"""Redis forgets everything: the farm knows again what its hosts have, within seconds."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest
from farm_box import eventually
from faulty_farm import Fault, FaultyFarm
from redis.exceptions import BusyLoadingError

from banger.contracts.errors import NotFoundError, UnavailableError
from banger.contracts.journal import name_key, vm_key
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.contracts.states import State
from banger.embedded.paths import farm_paths

pytestmark = pytest.mark.integration


def lose_everything(faulty: FaultyFarm) -> None:
    host, records = faulty.box.settings.host, faulty.box.admin
    records.redis.flushall()
    eventually(lambda: all(map(records.serving, (CONTROL, work_queue(host), root_queue(host)))))


def is_being_deleted(faulty: FaultyFarm, vm_id: str) -> bool:
    record = faulty.box.farm.records.get(vm_id)
    return record is not None and record.state is State.DELETING


def test_stopped_vms_are_there_again_with_name_slot_and_spec(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    made = [farm.create(f"kept{number}", start=False, memory_mib=128 + number) for number in range(3)]
    lose_everything(faulty)
    assert farm.list() == made
    other = farm.create("other", start=False)
    assert other.slot not in {record.slot for record in made}
    for record in (*made, other):
        farm.delete(record.name)
    assert not faulty.box.traces()


def test_what_was_half_made_is_removed(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault("work_disk", "before", "hold"))
    submission = farm.submit_create(farm.spec("half"), start=False)
    eventually(lambda: (faulty.box.paths.overlay(submission.vm_id)).exists())
    lose_everything(faulty)
    eventually(lambda: is_being_deleted(faulty, submission.vm_id))
    faulty.mend()  # what was held up goes on, and makes nothing that stays
    eventually(lambda: not faulty.box.traces())
    farm.create("next", start=False)
    farm.delete("next")
    assert not faulty.box.traces()
    with pytest.raises(NotFoundError):
        farm.show("half")


def test_a_vm_that_root_alone_knows_of_is_removed(faulty: FaultyFarm) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault("overlay", "before", "hold"))
    submission = farm.submit_create(farm.spec("early"), start=False)
    eventually(lambda: (faulty.box.paths.registry / f"{submission.vm_id}.json").exists())
    (faulty.box.paths.intent(submission.vm_id)).unlink()
    faulty.box.paths.vm(submission.vm_id).rmdir()
    lose_everything(faulty)
    eventually(lambda: is_being_deleted(faulty, submission.vm_id))
    faulty.mend()  # what was held up goes on, and makes nothing that stays
    eventually(lambda: not faulty.box.traces())
    farm.create("next", start=False)
    farm.delete("next")
    assert not faulty.box.traces()


def test_a_name_that_was_taken_meanwhile_stays_its_new_owners(faulty: FaultyFarm) -> None:
    farm, records = faulty.box.farm, faulty.box.admin
    old = farm.create("same", start=False)
    records.redis.delete(vm_key(old.id), name_key("same"))
    new = farm.create("same", start=False)
    records.restore(old)
    assert farm.show("same").id == new.id
    assert farm.show(old.id).name == f"same-{old.id}"
    for record in (old, new):
        farm.delete(record.id)
    assert not faulty.box.traces()


def test_a_redis_whose_file_is_damaged_is_mended_by_its_next_start(faulty: FaultyFarm) -> None:
    box = faulty.box
    made = box.farm.create("kept", start=False)
    farm = farm_paths(box.settings)
    eventually(lambda: not box.admin.redis.info("persistence")["aof_buffer_length"])
    with max((farm.redis / "appendonlydir").glob("*.incr.aof")).open("ab") as file:
        file.write(bytes(4096))  # as a disk that was full leaves them
    os.kill(box.pid("redis"), signal.SIGKILL)
    eventually(lambda: "4096 bytes, and is mended" in farm.log("redis").read_text())
    eventually(lambda: is_there(faulty))
    assert [record.id for record in box.farm.list()] == [made.id]
    box.farm.delete("kept")
    assert not box.traces()


def is_there(faulty: FaultyFarm) -> bool:
    with contextlib.suppress(UnavailableError, BusyLoadingError):
        return bool(faulty.box.farm.redis.ping())
    return False
