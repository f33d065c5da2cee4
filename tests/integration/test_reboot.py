"""A host that was rebooted: its VMMs are gone, and its boot is another than the one that was noted."""

from __future__ import annotations

import os
import signal

import pytest
from farm_box import eventually
from faulty_farm import FaultyFarm
from test_pipelines import NOT_WAITING

from banger.contracts.boot import boot_id
from banger.contracts.states import State
from banger.embedded import control
from banger.farm import Farm

pytestmark = pytest.mark.integration


def test_after_a_reboot_what_ran_is_booted_again_or_stopped_as_it_was_asked_for(faulty: FaultyFarm) -> None:
    box, farm = faulty.box, faulty.box.farm
    noted = box.paths.vms / ".boot-id"
    eventually(noted.exists)
    faulty.expect(NOT_WAITING)
    farm.create("again", autostart=True)
    farm.create("once")
    farm.create("off", start=False)
    assert farm.set("off", autostart=True).spec.autostart
    vmms = [
        int(e.data["pid"])
        for name in ("again", "once")
        for e in farm.timeline(name)
        if (e.stage, e.kind) == ("launch", "finished")
    ]
    control.down(box.settings)
    for pid in vmms:
        os.kill(pid, signal.SIGKILL)
    noted.write_text("the boot before")
    box.up()

    farm = Farm(box.settings)
    try:
        eventually(lambda: noted.read_text().strip() == boot_id(), 60)
        vms = {record.name: record for record in farm.list()}
        eventually(lambda: not farm.jobs())
        vms = {record.name: record for record in farm.list()}
        assert {name: (vm.state, vm.generation) for name, vm in vms.items()} == {
            "again": (State.RUNNING, 2),
            "once": (State.STOPPED, 1),
            "off": (State.STOPPED, 1),
        }
        assert noted.stat().st_mode & 0o777 == 0o600
        assert [e.pipeline for e in farm.timeline("again") if e.kind == "begun"] == ["restart"]
        assert len([line for line in box.traces() if line.startswith("process")]) == 2  # VMM and keeper
    finally:
        farm.redis.close()
