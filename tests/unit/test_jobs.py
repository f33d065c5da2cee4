"""What is shown of a job: the stage that is at work, and each step with what the timeline tells of it."""

from __future__ import annotations

import pytest
from cli_farm import event
from farm_facts import job, record

from banger.jobs import job_info, steps_of
from banger.pipelines import CREATE, RESTART, START, STOP

CLAIM = "a" * 24 + "|99999999999999|1"
GIVEN_BACK = "a" * 24 + "|0|0"


@pytest.mark.parametrize(
    ("state", "steps", "stage"),
    [
        ("running", {}, "attach_system_disk"),
        ("running", {"00": "done", "01": "done", "02": CLAIM}, "work_disk"),
        ("running", {"00": "done", "01": "done", "02": "done", "03": GIVEN_BACK}, "tap"),
        ("unwinding", {"00": "done", "01": "failed"}, "undo launch"),
        ("unwinding", {"00": "done", "01": "failed", "u00": "done", "u01": CLAIM}, "undo tap"),
        (
            "failed",
            {"00": "done", "01": "failed", "u00": "done", "u01": "done", "u02": "done"},
            "patch_rootfs",
        ),
        ("done", {"00": "done"}, None),
    ],
)
def test_the_stage_is_the_one_at_work_or_next_or_the_one_that_failed(state, steps, stage):
    assert job_info(job(START, state=state, steps=steps), record(), cancelled=False).stage == stage


def test_a_job_whose_vm_is_gone_has_neither_name_nor_host():
    info = job_info(job(CREATE, state="failed"), None, cancelled=True)
    assert (info.name, info.host, info.began_at, info.going_on) == (None, None, None, False)


def test_only_some_pipelines_can_be_cancelled():
    assert job_info(job(CREATE), record(), cancelled=False).cancellable
    assert not job_info(job(STOP), record(), cancelled=False).cancellable


def test_a_running_job_shows_what_is_to_come_and_leaves_out_files_that_nobody_left():
    steps = steps_of(job(CREATE, steps={"01": "done", "02": CLAIM}), [])
    assert [(step.title, step.mark) for step in steps[:4]] == [
        ("reserve", "done"),
        ("admit", "done"),
        ("overlay", "running"),
        ("attach_system_disk", "waiting"),
    ]
    assert steps[-1].stage == "wait_ready"
    with_files = steps_of(job(CREATE, params={"files": True}), [])
    assert with_files[-1].stage == "file_sync"


def test_a_failed_job_leaves_out_what_it_never_came_to():
    steps = steps_of(job(START, state="failed", steps={"00": "failed", "u00": "done"}), [])
    assert [(step.step, step.title) for step in steps] == [
        ("00", "attach_system_disk"),
        ("u00", "undo launch"),
    ]


def test_the_timeline_tells_attempts_durations_and_reasons():
    no = {"kind": "StageFailedError", "brief": "no"}
    told = [
        event("started", "launch", at=10.0, queue="q", direction="undo"),
        event("finished", "launch", at=10.5, ms=500.0, queue="q", direction="undo"),
        event("started", "launch", at=11.0, queue="q"),
        event("started", "launch", at=20.0, queue="q"),
        event("failed", "launch", at=22.0, ms=2000.0, queue="q", error=no),
        event("started", "launch", at=23.0, queue="q", direction="undo", unwinding=True),
        event("settled", "launch", at=24.0, queue="q", direction="undo", unwinding=True, state="error"),
        event("started", "launch", at=99.0, queue="q", job="f" * 12),
    ]
    known = job(RESTART, state="unwinding", steps={"01": "done", "08": "failed", "u00": CLAIM})
    steps = {step.step: step for step in steps_of(known, told) if step.stage == "launch"}
    assert [(step, one.attempts, one.began_at, one.ms) for step, one in steps.items()] == [
        ("01", 1, 10.0, 500.0),
        ("08", 2, 20.0, 2000.0),
        ("u00", 1, 23.0, None),
    ]
    assert steps["08"].error == no
