"""From pipelines to calls."""

from __future__ import annotations

from contextlib import suppress

import pytest
from farm_facts import JOB, NETWORK, UID_BASE, VM, job, record, steps
from pydantic import ValidationError

from banger.contracts.requests import UndoRequest
from banger.contracts.stages import Side
from banger.orders import Order
from banger.pipelines import (
    CREATE,
    CREATE_STOPPED,
    DELETE,
    KILL,
    PIPELINES,
    RESTART,
    RUN,
    SET,
    START,
    STOP,
    Pipeline,
)
from banger.planning import calls, unwinding_calls

ATTEMPT = {"batch": "b" * 12, "index": 3, "attempt": 2, "home": "here", "uploads": True, "collects": True}
PARAMS = {"argv": ["true"], "timeout_s": 5, "batch": ATTEMPT}


def rows(pipeline: Pipeline, params: dict[str, object] | None = None) -> list[tuple[str, str, str]]:
    return [(str(c.table_row.side), c.stage, c.direction) for c in steps(pipeline, params)]


def test_create_goes_through_both_queues_in_the_order_of_the_table() -> None:
    assert rows(CREATE) == [
        ("root", "admit", "do"),
        ("work", "overlay", "do"),
        ("root", "attach_system_disk", "do"),
        ("root", "patch_rootfs", "do"),
        ("work", "work_disk", "do"),
        ("root", "tap", "do"),
        ("root", "launch", "do"),
        ("work", "wait_ready", "do"),
    ]


def test_launch_is_told_when_the_vms_time_to_live_is_over() -> None:
    made = record()
    mortal = made.model_copy(update={"spec": made.spec.model_copy(update={"ttl_s": 90.0})})
    for vm, over in ((made, None), (mortal, made.created_at + 90)):
        planned = calls(CREATE, vm, job(CREATE), NETWORK, UID_BASE)
        assert [call.request["expires_at"] for call in planned if call.stage == "launch"] == [over]


def test_delete_stops_before_it_removes_and_releases_last() -> None:
    assert [stage for _, stage, _ in rows(DELETE)] == [
        "guest_shutdown",
        "launch",
        "tap",
        "attach_system_disk",
        "work_disk",
        "overlay",
        "admit",
        "reserve",
    ]
    last = steps(DELETE)[-1]
    assert (last.final, last.release) == ("gone", True)


def test_run_is_create_then_exec_then_the_vm_is_gone() -> None:
    stages = [stage for _, stage, _ in rows(RUN, PARAMS)]
    assert stages.index("exec") == stages.index("wait_ready") + 1
    assert steps(RUN, PARAMS)[-1].final == "gone"


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_workers_alone_free_names_and_slots_since_roots_user_in_redis_may_not(pipeline: Pipeline) -> None:
    made = record()
    params = PARAMS if {"exec", "work"} & {row.stage for row in pipeline.rows} else {}
    unwound = unwinding_calls(pipeline, made, job(pipeline, params=params)) if pipeline.unwinding else []
    for call in (*steps(pipeline, params), *unwound):
        assert not call.release or call.table_row.side is Side.WORK


@pytest.mark.parametrize("pipeline", [CREATE, START, STOP, RESTART, SET, CREATE_STOPPED])
def test_only_the_last_step_settles(pipeline: Pipeline) -> None:
    finals = [call.final for call in steps(pipeline)]
    assert finals[:-1] == [None] * (len(finals) - 1)
    assert finals[-1] == pipeline.after


@pytest.mark.parametrize("pipeline", list(PIPELINES.values()), ids=list(PIPELINES))
def test_every_request_is_valid_for_its_stage(pipeline: Pipeline) -> None:
    for call in steps(pipeline, {} if pipeline is SET else PARAMS):
        assert call.parse_request().vm_id == VM


@pytest.mark.parametrize("pipeline", list(PIPELINES.values()), ids=list(PIPELINES))
def test_an_order_that_is_taken_can_be_planned(pipeline: Pipeline) -> None:
    """A job that cannot be would have its VM for good: it is rung for again and again."""

    def is_taken(params: dict[str, object]) -> bool:
        with suppress(ValidationError):
            Order.model_validate({"vm": VM, "job": JOB, "pipeline": pipeline.name, "params": params})
            return True
        return False

    asked = [{}] if pipeline is SET else [PARAMS | {"timeout_s": number} for number in (1, 600, 601, 86_400)]
    taken = [params for params in asked if is_taken(params)]
    assert taken
    for params in taken:
        assert all(call.parse_request() for call in steps(pipeline, params))


@pytest.mark.parametrize("pipeline", list(PIPELINES.values()), ids=list(PIPELINES))
def test_every_undo_needs_only_the_id(pipeline: Pipeline) -> None:
    for call in unwinding_calls(pipeline, record(), job(pipeline)) if pipeline.unwinding else []:
        assert isinstance(call.parse_request(), UndoRequest)
        assert set(call.request) <= {"vm_id", "generation", "signal"}


@pytest.mark.parametrize(
    ("pipeline", "params", "signal"),
    [
        (STOP, {"timeout_s": 20}, "TERM"),
        (STOP, {"timeout_s": 0}, "KILL"),
        (RESTART, {"timeout_s": 20}, "TERM"),
        (DELETE, {"timeout_s": 0}, "KILL"),
        (KILL, {"signal": "INT"}, "INT"),
        (RUN, PARAMS, "KILL"),  # its time is the command's
    ],
)
def test_a_guest_that_was_given_time_is_asked_once_more_by_its_vmm(pipeline, params, signal) -> None:
    (kill,) = [one for one in steps(pipeline, params) if (one.stage, one.direction) == ("launch", "undo")]
    assert kill.request["signal"] == signal


def test_unwinding_create_undoes_every_row_the_last_one_first() -> None:
    undone = [call.stage for call in unwinding_calls(CREATE, record(), job(CREATE))]
    assert undone == ["launch", "tap", "work_disk", "attach_system_disk", "overlay", "admit", "reserve"]


def test_unwinding_start_keeps_the_disks() -> None:
    undone = [call.stage for call in unwinding_calls(START, record(), job(START))]
    assert undone == ["launch", "tap", "attach_system_disk"]


def test_what_a_living_vmm_may_write_to_is_not_removed() -> None:
    launch, *others = unwinding_calls(CREATE, record(), job(CREATE))
    assert launch.requires == ()
    assert all(launch.step in call.requires for call in others)


def test_root_forgets_no_vm_of_which_it_has_something_still() -> None:
    undos = {call.stage: call for call in unwinding_calls(CREATE, record(), job(CREATE))}
    taken_back = {undos[stage].step for stage in ("launch", "tap", "attach_system_disk")}
    assert set(undos["admit"].requires) == taken_back


@pytest.mark.parametrize(
    ("ephemeral", "error", "final"),
    [
        (False, "StageFailedError", "error"),
        (True, "StageFailedError", "gone"),
        (False, "CancelledError", "gone"),
    ],
)
def test_a_failed_create_leaves_a_record_where_somebody_may_ask(
    ephemeral: bool, error: str, final: str
) -> None:
    vm = record(spec=record().spec.model_copy(update={"ephemeral": ephemeral}))
    last = unwinding_calls(CREATE, vm, job(CREATE, error={"kind": error}))[-1]
    assert (last.final, last.release) == (final, True)


def test_a_record_without_a_slot_can_only_be_undone() -> None:
    planned = calls(DELETE, record(slot=None), job(DELETE), NETWORK, UID_BASE)
    assert {call.direction for call in planned} == {"undo"}


def test_task_ids_are_the_same_when_a_job_is_rung_again() -> None:
    assert [c.task_id for c in steps(CREATE)] == [c.task_id for c in steps(CREATE)]
    assert len({c.task_id for c in steps(RESTART)}) == len(steps(RESTART))
