"""Workers that die in the middle of what is begun once, or of what kills them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from farm_box import await_stage, eventually
from faulty_farm import Fault, FaultyFarm, faulty_farm_box
from netns import inside
from test_pipelines import NOT_WAITING

from banger.contracts.errors import StageFailedError
from banger.contracts.states import State

pytestmark = pytest.mark.integration

TOLD_S = 30.0


@pytest.fixture(scope="module")
def farm_of_our_own() -> Iterator[FaultyFarm]:
    """A farm whose supervisor may grow wary of services that die again and again."""
    with faulty_farm_box() as farm:
        yield farm


@pytest.fixture
def faulty(farm_of_our_own: FaultyFarm) -> Iterator[FaultyFarm]:
    with inside(farm_of_our_own.box.network):
        yield farm_of_our_own


def test_a_command_whose_worker_dies_is_told_of_and_never_run_again(faulty: FaultyFarm) -> None:
    box = faulty.box
    faulty.expect(NOT_WAITING, Fault("exec", "before", "hold"))
    spec = box.farm.run_spec("job")
    submission = box.farm.submit_run(spec, ["make", "test"], timeout_s=3600)
    await_stage(submission, box.farm, "exec")
    died = time.monotonic()
    os.kill(box.pid("worker"), signal.SIGKILL)
    with pytest.raises(StageFailedError, match="exec was begun 1 times and never ended") as caught:
        submission.wait()
    assert time.monotonic() - died < TOLD_S
    assert "its worker died" in caught.value.details
    begun = [e for e in box.farm.events.read(submission.vm_id) if (e.stage, e.kind) == ("exec", "started")]
    assert len(begun) == 1
    eventually(lambda: not box.traces())


def test_a_stage_that_kills_its_worker_every_time_is_given_up(faulty: FaultyFarm) -> None:
    box = faulty.box
    faulty.expect(Fault("overlay", "before", "die"))
    with pytest.raises(StageFailedError, match="overlay was begun 3 times and never ended"):
        box.farm.create("hungry", start=False)
    assert not box.traces()
    assert box.farm.show("hungry").state is State.ERROR
