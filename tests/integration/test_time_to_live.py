"""A VM's time to live is over on time, though of the whole farm only the VM's keeper is alive."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from farm_box import Box, eventually
from faulty_farm import Fault, FaultyFarm

from banger.embedded import control
from banger.findings import UNKEPT

pytestmark = pytest.mark.integration

TTL_S = 8.0


def test_a_vm_ends_on_time_while_the_farm_is_down_and_is_deleted_when_it_is_up(faulty: FaultyFarm) -> None:
    box = faulty.box
    faulty.expect(Fault("wait_ready", "before", "skip"))  # what runs in the VM is not what this is about
    record = box.farm.create("short", ttl_s=TTL_S)
    assert record.expires_at is not None
    control.down(box.settings)
    try:
        assert processes(faulty), "it outlives the farm"
        assert time.time() < record.expires_at
        eventually(lambda: not processes(faulty))
        assert 0 <= time.time() - record.expires_at < 2
        assert "the time to live is over" in box.paths.serial_log(record.id).read_text(errors="replace")
    finally:
        box.up()
    eventually(lambda: box.farm.records.get(record.id) is None)
    assert not box.traces()


def test_a_vm_whose_keeper_has_died_is_told_of_and_ends_on_time_with_the_farm(faulty: FaultyFarm) -> None:
    box = faulty.box
    faulty.expect(Fault("wait_ready", "before", "skip"))
    record = box.farm.create("unkept", ttl_s=30)
    (keeper,) = (line.split()[1] for line in processes(faulty) if "keeper.py" in line)
    os.kill(int(keeper), signal.SIGKILL)
    assert eventually(lambda: found(box)) == [UNKEPT]
    checks = {one["name"]: one["found"] for one in json.loads(box.banger("doctor", "--json").stdout)}
    assert checks["VMs and jobs"] == f"VM unkept: {UNKEPT}"
    eventually(lambda: box.farm.records.get(record.id) is None, 60)
    assert not box.traces()


def found(box: Box) -> list[str]:
    (report,) = box.farm.reconcile().values()
    assert report is not None
    return [one.what for one in report.findings]


def processes(faulty: FaultyFarm) -> list[str]:
    return list(faulty.box._processes())
