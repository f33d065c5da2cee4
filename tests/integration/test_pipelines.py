"""Whole pipelines through both queues, with real workers, where a stage fails, hangs, or is not wanted any more."""

from __future__ import annotations

import itertools

import pytest
from faulty_farm import FaultyFarm, When

from banger.contracts.errors import StageFailedError
from banger.states import State

pytestmark = pytest.mark.integration

STAGES = (
    "admit",
    "overlay",
    "attach_system_disk",
    "patch_rootfs",
    "work_disk",
    "tap",
    "launch",
    "wait_ready",
)


@pytest.mark.parametrize(("stage", "when"), [*itertools.product(STAGES, ("before", "after"))])
def test_a_create_that_fails_leaves_nothing_but_its_reason(
    faulty: FaultyFarm, stage: str, when: When
) -> None:
    faulty.fail(stage, when)
    with pytest.raises(StageFailedError, match=f"^{stage} failed: a test made this fail {when} its effect"):
        faulty.box.farm.create("dev")
    assert not faulty.box.traces()
    record = faulty.box.farm.show("dev")
    assert (record.state, record.slot, record.job) == (State.ERROR, None, None)
    assert record.error is not None
    assert record.error["stage"] == stage
    assert record.error["brief"] == f"a test made this fail {when} its effect"
