"""A host that is rebooted: its VMMs are gone, and its boot is another than the one that was noted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from farm_box import Box, await_stage, eventually
from faulty_farm import Fault, FaultyFarm
from test_pipelines import NOT_WAITING

from banger.contracts.states import State
from banger.farm import Farm

pytestmark = pytest.mark.integration


@pytest.fixture
def farm(faulty: FaultyFarm) -> Iterator[Farm]:
    """A farm as whoever comes after the reboot has it."""
    made = Farm(faulty.box.settings)
    yield made
    made.redis.close()


def reboot(faulty: FaultyFarm, *faults: Fault) -> None:
    """Reboot, and wait until that is dealt with."""
    noted, now = faulty.box.paths.vms / ".boot-id", faulty.reboot(*faults)
    eventually(lambda: noted.read_text() == now, 60)


def at_rest(farm: Farm) -> dict[str, tuple[State, int]]:
    """Return each VM's state and start, once no job goes on."""
    eventually(lambda: not farm.jobs(), 60)
    return {record.name: (record.state, record.generation) for record in farm.list()}


def freeze(box: Box) -> None:
    """Let no guest boot, and no VMM end."""
    for trace in box.in_kernel():
        if trace.startswith("process"):
            os.kill(int(trace.split()[1]), signal.SIGSTOP)


def test_after_a_reboot_what_ran_is_booted_again_or_stopped_as_it_was_asked_for(
    faulty: FaultyFarm, farm: Farm
) -> None:
    box, noted = faulty.box, faulty.box.paths.vms / ".boot-id"
    eventually(noted.exists)
    faulty.expect(NOT_WAITING)
    box.farm.create("again", autostart=True)
    box.farm.create("once")
    box.farm.create("off", start=False)
    assert box.farm.set("off", autostart=True).spec.autostart
    reboot(faulty, NOT_WAITING)
    assert at_rest(farm) == {
        "again": (State.RUNNING, 2),
        "once": (State.STOPPED, 1),
        "off": (State.STOPPED, 1),
    }
    assert noted.stat().st_mode & 0o777 == 0o600
    assert [e.pipeline for e in farm.timeline("again") if e.kind == "begun"] == ["restart"]
    assert len([line for line in box.traces() if line.startswith("process")]) == 2  # VMM and keeper


def test_what_was_being_booted_when_its_host_was_rebooted_again_is_booted_all_the_same(
    faulty: FaultyFarm, farm: Farm
) -> None:
    faulty.expect(NOT_WAITING)
    faulty.box.farm.create("again", autostart=True)
    reboot(faulty)
    eventually(lambda: begun(farm, "again", "wait_ready", 2))
    freeze(faulty.box)
    reboot(faulty, NOT_WAITING)
    assert at_rest(farm) == {"again": (State.RUNNING, 3)}
    told = farm.timeline("again")
    assert [e.pipeline for e in told if e.kind == "begun"] == ["restart"]
    assert [e.pipeline for e in told if e.kind == "rebooted"] == ["restart"]


@pytest.mark.parametrize(
    ("stage", "faults"), [("launch", [Fault("launch", "before", "hold")]), ("wait_ready", [])]
)
def test_a_create_goes_on_when_its_host_is_there_again(
    faulty: FaultyFarm, farm: Farm, stage: str, faults: list[Fault]
) -> None:
    faulty.expect(*faults)
    submission = faulty.box.farm.submit_create(faulty.box.farm.spec("dev"))
    await_stage(submission, faulty.box.farm, stage)
    freeze(faulty.box)
    reboot(faulty, NOT_WAITING)
    assert at_rest(farm) == {"dev": (State.RUNNING, 2)}


def test_a_command_that_had_begun_is_told_of_and_never_run_again(faulty: FaultyFarm, farm: Farm) -> None:
    faulty.expect(NOT_WAITING, Fault("exec", "before", "hold"))
    spec = faulty.box.farm.run_spec("job")
    submission = faulty.box.farm.submit_run(spec, ["make", "test"], timeout_s=3600)
    await_stage(submission, faulty.box.farm, "exec")
    reboot(faulty, NOT_WAITING)
    assert at_rest(farm) == {}
    told = [e for e in farm.events.read(submission.vm_id) if e.stage == "exec"]
    assert [e.kind for e in told] == ["started", "failed"]
    assert "exec was begun 1 times and never ended" in (told[-1].error or {})["brief"]
    assert not faulty.box.traces()


def begun(farm: Farm, name: str, stage: str, times: int) -> bool:
    told = farm.timeline(name)
    return len([e for e in told if (e.stage, e.kind) == (stage, "started")]) >= times
