"""The pipelines: each a table of stages, and the VM's state before, during and after.

Reading a table downwards is what happens. When a step fails, the undo of every row marked ``do`` is
sent, last row first. Rows marked ``keep`` are done but never undone: what they make outlives the
pipeline (a stopped VM keeps its disks). When a row marked ``stay`` fails, nothing is undone at all: the
VM stays as the pipeline would have left it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from banger.contracts.queues import Direction
from banger.contracts.stages import STAGES
from banger.contracts.states import State

_QUEUEING_S = 3600.0  # of all steps together: hundreds of VMs may be asked for at once

FILES_LEFT = "files"  # a job's parameter: the owner has left files, so ``file_sync`` has something to do
BATCH = "batch"  # a job's parameter: which job of which batch it is an attempt of


COMMANDS = (
    "exec",
    "work",
)  # stages that run what a user wants run, for as long as the job's ``timeout_s`` says


class Row(NamedTuple):
    """One row of a pipeline: a stage, and how it is used there."""

    use: Literal["do", "keep", "stay", "undo"]
    stage: str

    @property
    def direction(self) -> Direction:
        """Whether its stage is done or undone."""
        return "undo" if self.use == "undo" else "do"


class Pipeline(NamedTuple):
    """A named table of rows. ``starts``: it makes a new generation of the VM."""

    name: str
    rows: tuple[Row, ...]
    before: frozenset[State]
    during: State
    after: State
    starts: bool = False
    cancellable: bool = False

    @property
    def steps(self) -> dict[str, Row]:
        """Its rows in order, each by the name of its step in a job."""
        return {f"{number:02d}": row for number, row in enumerate(self.rows)}

    @property
    def unwinding(self) -> tuple[str, ...]:
        """The stages whose undo is sent when the pipeline fails, in that order."""
        return tuple(row.stage for row in reversed(self.rows) if row.use == "do" and STAGES[row.stage].undo)

    @property
    def deadline_s(self) -> float:
        """How long a job may take from its beginning: what its stages may, and some time in queues."""
        return _QUEUEING_S + sum(STAGES[row.stage].deadline_s for row in self.rows)

    @property
    def unwinding_deadline_s(self) -> float:
        """How long the unwinding may take, from the failure on; a cancellation does not shorten it."""
        return _QUEUEING_S + sum(STAGES[stage].deadline_s for stage in self.unwinding)

    def fails_to(self, row: Row) -> State | None:
        """Return the VM's state after this row's failure, None where the pipeline is unwound instead."""
        if row.use == "stay":
            return self.after
        return None if self.unwinding else State.ERROR


def _do(stage: str) -> Row:
    return Row("do", stage)


def _keep(stage: str) -> Row:
    return Row("keep", stage)


def _stay(stage: str) -> Row:
    return Row("stay", stage)


def _undo(stage: str) -> Row:
    return Row("undo", stage)


_PREPARE = (
    _do("reserve"),
    _do("admit"),
    _do("overlay"),
)
_BOOT = (
    _do("attach_system_disk"),
    _do("patch_rootfs"),
    _do("work_disk"),
    _do("tap"),
    _do("launch"),
    _do("wait_ready"),
    _do("file_sync"),
)
_BOOT_AGAIN = (
    _do("attach_system_disk"),
    _do("patch_rootfs"),
    _keep("work_disk"),
    _do("tap"),
    _do("launch"),
    _do("wait_ready"),
    _do("file_sync"),
)
_HALT = (
    _undo("launch"),
    _undo("tap"),
    _undo("attach_system_disk"),
)
_REMOVE = (
    _undo("work_disk"),
    _undo("overlay"),
    _undo("admit"),
    _undo("reserve"),
)
_SHUTDOWN = (_keep("guest_shutdown"),)

_AT_REST = frozenset({State.STOPPED, State.ERROR})
_ANY = frozenset({State.RUNNING, State.STOPPED, State.ERROR})

CREATE = Pipeline(
    "create", _PREPARE + _BOOT, frozenset(), State.CREATING, State.RUNNING, starts=True, cancellable=True
)
CREATE_STOPPED = Pipeline(
    "create-stopped",
    (*_PREPARE, _do("work_disk")),
    frozenset(),
    State.CREATING,
    State.STOPPED,
    starts=True,
    cancellable=True,
)
RUN = Pipeline(
    "run",
    (*_PREPARE, *_BOOT, _do("exec"), *_HALT, *_REMOVE),
    frozenset(),
    State.CREATING,
    State.GONE,
    starts=True,
    cancellable=True,
)
RUN_KEEP = Pipeline(
    "run-keep",
    (*_PREPARE, *_BOOT, _stay("exec")),
    frozenset(),
    State.CREATING,
    State.RUNNING,
    starts=True,
    cancellable=True,
)
BATCH_JOB = Pipeline(
    "batch",
    (*_PREPARE, *_BOOT, _do("upload"), _do("work"), _do("collect"), *_HALT, *_REMOVE),
    frozenset(),
    State.CREATING,
    State.GONE,
    starts=True,
    cancellable=True,
)
BATCH_JOB_KEEP = Pipeline(  # what is not kept after all is deleted by who settles the job
    "batch-keep",
    (*_PREPARE, *_BOOT, _stay("upload"), _stay("work"), _stay("collect")),
    frozenset(),
    State.CREATING,
    State.RUNNING,
    starts=True,
    cancellable=True,
)
START = Pipeline("start", _BOOT_AGAIN, _AT_REST, State.STARTING, State.RUNNING, starts=True, cancellable=True)
STOP = Pipeline("stop", (*_SHUTDOWN, *_HALT), _ANY, State.STOPPING, State.STOPPED)
KILL = Pipeline("kill", _HALT, _ANY, State.STOPPING, State.STOPPED)
RESTART = Pipeline(
    "restart", (*_SHUTDOWN, *_HALT, *_BOOT_AGAIN), _ANY, State.STARTING, State.RUNNING, starts=True
)
DELETE = Pipeline("delete", (*_SHUTDOWN, *_HALT, *_REMOVE), _ANY | {State.LOST}, State.DELETING, State.GONE)
SWEEP = Pipeline(  # of what root's registry does not know: it is admitted first, so that root may remove it
    "sweep", (_keep("admit"), *_HALT, *_REMOVE), frozenset({State.ERROR}), State.DELETING, State.GONE
)
SET = Pipeline(
    "set",
    (_stay("grow_work_disk"), _stay("update_spec")),
    frozenset({State.STOPPED}),
    State.CHANGING,
    State.STOPPED,
)

PIPELINES = {
    pipeline.name: pipeline
    for pipeline in (
        CREATE,
        CREATE_STOPPED,
        RUN,
        RUN_KEEP,
        BATCH_JOB,
        BATCH_JOB_KEEP,
        START,
        STOP,
        KILL,
        RESTART,
        DELETE,
        SWEEP,
        SET,
    )
}
