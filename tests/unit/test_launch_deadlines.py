"""All that a launch waits for ends, and is told, before the stage is given up as one that hangs."""

from __future__ import annotations

from banger.contracts.stages import STAGES
from banger.contracts.vm_unit import STOP_S
from root_worker.ops import spawn
from root_worker.stages import launch
from root_worker.vmm import cgroups, firecracker, processes, units

STAGE_S = STAGES["launch"].deadline_s

# Each part where all that it waits for comes at the last moment.
VERSIONS_S = 2 * firecracker._VERSION_DEADLINE_S
END_S = processes.DEATH_DEADLINE_S + 2 * (processes.DEATH_DEADLINE_S + processes.LAST_WORDS_S)
MILD_END_S = processes.SIGNAL_DEADLINE_S + processes.LAST_WORDS_S + END_S
NO_UNIT_S = units._GRACE_S + 2 * units._TOOL_DEADLINE_S + units._DEADLINE_S
UNIT_S = NO_UNIT_S + units._TOOL_DEADLINE_S + units._DEADLINE_S


def test_a_launch_that_fails_in_its_last_part_has_failed_within_its_stage() -> None:
    leftover_s = END_S
    started_s = VERSIONS_S + UNIT_S + spawn._DEADLINE_S + launch.ANSWER_DEADLINE_S
    assert leftover_s + started_s + END_S <= STAGE_S


def test_an_undo_ends_within_the_stage() -> None:
    assert MILD_END_S + NO_UNIT_S + cgroups.REMOVAL_DEADLINE_S <= STAGE_S


def test_who_stops_a_unit_waits_until_systemd_has_killed_what_is_in_it() -> None:
    assert units._TOOL_DEADLINE_S > STOP_S
