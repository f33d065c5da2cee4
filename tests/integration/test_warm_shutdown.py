"""``banger farm down`` while the workers are at all kinds of work: it is quick, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import time

import pytest
from farm_box import await_stage, eventually
from faulty_farm import Fault, FaultyFarm

from banger.contracts.states import State
from banger.embedded import control
from banger.farm import Farm

pytestmark = pytest.mark.integration

AT_MOST_S = 20.0


def test_down_is_quick_whatever_runs_and_the_next_up_ends_it_all(faulty: FaultyFarm) -> None:
    box, farm = faulty.box, faulty.box.farm
    command = farm.submit_run(farm.run_spec("command"), ["sleep", "600"], 600.0)
    await_stage(command, farm, "exec")
    waits = farm.submit_create(farm.spec("waits"))
    await_stage(waits, farm, "wait_ready")
    launched = next(e for e in farm.events.read(waits.vm_id) if (e.stage, e.kind) == ("launch", "finished"))
    vmm = int(launched.data["pid"])
    os.kill(vmm, signal.SIGSTOP)  # its guest does not answer for as long as we like
    faulty.expect(Fault("work_disk", "before", "hold"), Fault("tap", "before", "hold"))
    stages = [farm.submit_create(farm.spec(name)) for name in ("one", "two")]
    for submission in stages:
        await_stage(submission, farm, "work_disk")

    began = time.monotonic()
    control.down(box.settings)
    assert time.monotonic() - began < AT_MOST_S

    faulty.mend()
    os.kill(vmm, signal.SIGCONT)
    box.up()
    farm = Farm(box.settings)
    try:
        ended = {farm.show(one.vm_id).name: farm.wait_for(one.job) for one in (waits, *stages)}
        assert {name: job.state for name, job in ended.items()} == dict.fromkeys(ended, "done")
        assert {record.name: record.state for record in farm.list()} == dict.fromkeys(ended, State.RUNNING)
        begun = [e for e in farm.timeline("waits") if (e.stage, e.kind) == ("wait_ready", "started")]
        assert len(begun) == 2, "the wait was handed over, and begun anew"
        cut_off = farm.wait_for(command.job)
        assert cut_off.error is not None
        assert cut_off.error["brief"] == "the host's worker is shutting down"
        eventually(lambda: len(box.farm.list()) == 3)
    finally:
        farm.redis.close()
