"""Jobs as people and programs are shown them: which stage is at work, which steps there are. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from banger.contracts.queues import Direction
from banger.contracts.stages import STAGES
from banger.events import Event
from banger.pipelines import COMMANDS, PIPELINES
from banger.planning import wanted
from banger.records import GOING_ON, Job, Record

_WAITING = "waiting"


class Step(BaseModel):
    """A step of a job. ``mark``: waiting, running, done or failed; ``attempts``: how often it was begun.

    ``began_at`` in epoch seconds, ``ms`` how long it took; None where that is not known (yet, any more).
    """

    model_config = ConfigDict(frozen=True)

    step: str
    stage: str
    direction: Direction
    unwinding: bool
    mark: str
    attempts: int = 0
    queue: str = ""
    began_at: float | None = None
    ms: float | None = None
    error: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        """The stage's name; what is taken back is marked."""
        return f"undo {self.stage}" if self.direction == "undo" else self.stage


class JobInfo(BaseModel):
    """A job and its VM. ``name`` and ``host`` are None once the VM is gone.

    ``began_at`` in epoch seconds, and ``deadline_at``, when what it is at (running, unwinding) must end.

    ``state``: running, unwinding, done or failed. ``stage``: at work, next, or the one that failed.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    vm: str
    name: str | None
    host: str | None
    pipeline: str
    state: str
    stage: str | None
    began_at: float | None
    deadline_at: float | None
    cancellable: bool
    cancelled: bool
    error: dict[str, Any] | None = None

    @property
    def going_on(self) -> bool:
        """Tell whether the job has not ended yet."""
        return self.state in GOING_ON


def job_info(job: Job, record: Record | None, *, cancelled: bool) -> JobInfo:
    """Return what a listing shows of a job. ``cancelled``: it was asked to stop."""
    return JobInfo(
        id=job.id,
        vm=job.vm,
        name=record.name if record else None,
        host=record.host if record else None,
        pipeline=job.pipeline,
        state=job.state,
        stage=_stage_of(job),
        began_at=job.began_ms / 1000 if job.began_ms else None,
        deadline_at=deadline_at(job),
        cancellable=PIPELINES[job.pipeline].cancellable,
        cancelled=cancelled,
        error=job.error,
    )


def deadline_s(job: Job) -> float:
    """Return how long what the job is at, running or unwinding, may take. A command says so itself."""
    pipeline = PIPELINES[job.pipeline]
    if job.state == "unwinding":
        return pipeline.unwinding_deadline_s
    command = next((row.stage for row in pipeline.rows if row.stage in COMMANDS), None)
    if command and "timeout_s" in job.params:
        return pipeline.deadline_s - STAGES[command].deadline_s + float(job.params["timeout_s"])
    return pipeline.deadline_s


def deadline_at(job: Job) -> float | None:
    """Return when that should be over, in epoch seconds; None where nothing is under way or known."""
    since_ms = {"running": job.began_ms, "unwinding": job.failed_ms}.get(job.state)
    return since_ms / 1000 + deadline_s(job) if since_ms else None


def steps_of(job: Job, events: Sequence[Event]) -> list[Step]:
    """Return a job's steps in order, with what its VM's timeline tells of them.

    What is still to come is there while the job runs; what a job that failed never came to is left out.
    """
    return [_told(step, job, events) for step in _marked(job)]


def _marked(job: Job) -> Iterator[Step]:
    pipeline = PIPELINES[job.pipeline]
    for step, row in pipeline.steps.items():
        if row == ("do", "reserve"):
            mark: str | None = "done"  # or there would be no job
        elif not wanted(row.stage, job):
            continue
        else:
            mark = _mark(job, step, ahead=job.state == "running")
        if mark:
            yield Step(step=step, stage=row.stage, direction=row.direction, unwinding=False, mark=mark)
    for number, stage in enumerate(pipeline.unwinding):
        step = f"u{number:02d}"
        if mark := _mark(job, step, ahead=job.state == "unwinding"):
            yield Step(step=step, stage=stage, direction="undo", unwinding=True, mark=mark)


def _mark(job: Job, step: str, *, ahead: bool) -> str | None:
    mark = job.steps.get(step)
    if mark is None:
        return _WAITING if ahead else None
    if mark in ("done", "failed"):
        return mark
    _holder, until_ms, _attempt = mark.split("|")
    return "running" if int(until_ms) else _WAITING  # a step that was given back waits for the next worker


def _told(step: Step, job: Job, events: Sequence[Event]) -> Step:
    key = (job.id, step.stage, step.direction, step.unwinding)
    ours = [
        event
        for event in events
        if (event.job, event.stage, event.direction, event.unwinding) == key
        and event.kind in ("started", "finished", "failed")  # what settled the job names its last stage too
    ]
    if not ours:
        return step
    last = ours[-1]
    return step.model_copy(
        update={
            "attempts": max(1, sum(event.kind == "started" for event in ours)),
            "queue": last.queue,
            "began_at": last.at - (last.ms or 0.0) / 1000,
            "ms": last.ms,
            "error": last.error,
        }
    )


def _stage_of(job: Job) -> str | None:
    steps = [step for step in _marked(job) if step.unwinding or job.state != "unwinding"]
    marks = {"running": ("running", _WAITING), "unwinding": ("running", _WAITING), "failed": ("failed",)}
    for mark in marks.get(job.state, ()):
        for step in steps:
            if step.mark == mark:
                return step.title
    return None
