"""The tables and the code agree: each stage is on the side that its row says, in the directions it says."""

from __future__ import annotations

import importlib

import pytest

from banger.contracts.stages import STAGES, Side, Stage
from banger.pipelines import PIPELINES
from root_worker.stages import EFFECTS as ROOT_EFFECTS
from workers.stages import BATCH_EFFECTS
from workers.stages import EFFECTS as WORK_EFFECTS

PACKAGES = {Side.WORK: "workers", Side.ROOT: "root_worker"}
GIVEN_THE_RECORDS = {("update_spec", "do")}  # registered by the worker itself, which has them

every_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
every_row = pytest.mark.parametrize(
    ("pipeline", "row"),
    [(pipeline, row) for pipeline in PIPELINES.values() for row in pipeline.rows],
    ids=lambda value: getattr(value, "name", None) or f"{value.use}-{value.stage}",
)


def directions(stage: Stage) -> set[str]:
    return {direction for direction in ("do", "undo") if getattr(stage, direction)}


@every_stage
def test_a_stage_is_a_module_of_its_side_with_the_directions_of_its_row(stage):
    module = importlib.import_module(f"{PACKAGES[stage.side]}.stages.{stage.name}")
    assert {name for name in ("do", "undo") if hasattr(module, name)} == directions(stage)


@pytest.mark.parametrize(
    ("side", "effects"), [(Side.WORK, WORK_EFFECTS | BATCH_EFFECTS), (Side.ROOT, ROOT_EFFECTS)]
)
def test_a_side_can_do_exactly_what_the_table_gives_it(side, effects):
    rows = {(stage.name, way) for stage in STAGES.values() if stage.side is side for way in directions(stage)}
    assert set(effects) == rows - GIVEN_THE_RECORDS


@every_stage
def test_an_undo_needs_the_vms_id_and_nothing_else(stage):
    if stage.undo:
        needed = {name for name, field in stage.undo.model_fields.items() if field.is_required()}
        assert needed == {"vm_id", "generation"}


@every_row
def test_a_pipelines_row_uses_a_stage_in_a_direction_that_it_has(pipeline, row):
    stage = STAGES[row.stage]
    if row.stage == "reserve" and row.use != "undo":
        return  # the control queue's own task, before a host is known
    assert ("undo" if row.use == "undo" else "do") in directions(stage)


def test_what_is_undone_when_a_pipeline_fails_is_written_down_here_too():
    everything = "launch tap work_disk attach_system_disk overlay admit reserve"
    boot = "launch tap attach_system_disk"
    assert {name: " ".join(pipeline.unwinding) for name, pipeline in PIPELINES.items()} == {
        "create": everything,
        "create-stopped": "work_disk overlay admit reserve",
        "run": everything,
        "run-keep": everything,
        "batch": everything,
        "batch-keep": everything,
        "start": boot,
        "restart": boot,
        **dict.fromkeys(("stop", "kill", "delete", "sweep", "set"), ""),
    }


def test_every_stage_is_used_by_some_pipeline():
    used = {row.stage for pipeline in PIPELINES.values() for row in pipeline.rows}
    assert used == set(STAGES)
