"""The table of stages: on which side each runs, what it is asked, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from banger.contracts.queues import Direction
from banger.contracts.requests import (
    AdmitRequest,
    AttachSystemDiskRequest,
    CollectRequest,
    ExecRequest,
    FileSyncRequest,
    GrowWorkDiskRequest,
    GuestShutdownRequest,
    KillRequest,
    LaunchRequest,
    OverlayRequest,
    PatchRootfsRequest,
    StageRequest,
    TapRequest,
    UndoRequest,
    UpdateSpecRequest,
    UploadRequest,
    WaitReadyRequest,
    WorkDiskRequest,
    WorkRequest,
)

_SPARE_S = 5.0  # from a stage's deadline until its claim runs out


class Side(StrEnum):
    """Who runs a stage: the unprivileged worker or the root worker."""

    WORK = "work"
    ROOT = "root"


class Stage(NamedTuple):
    """A stage: its side, the request models of its two directions, its deadline in seconds.

    ``attempts`` bounds how often a do is begun when workers die in it; a guest's command is never run twice.
    ``waits``: it mostly waits for a guest, for minutes or hours. ``tells``: the job remembers what it said.
    """

    name: str
    side: Side
    do: type[StageRequest] | None
    undo: type[StageRequest] | None
    deadline_s: float
    attempts: int = 3
    waits: bool = False
    tells: bool = False

    @property
    def lease_s(self) -> float:
        """How long a claim holds in a worker that lives; one whose worker has died holds no longer."""
        return self.deadline_s + _SPARE_S


STAGES = {
    stage.name: stage
    for stage in (
        Stage("reserve", Side.WORK, None, UndoRequest, 10),  # its do is the control queue's own task
        Stage("admit", Side.ROOT, AdmitRequest, UndoRequest, 10),
        Stage("overlay", Side.WORK, OverlayRequest, UndoRequest, 60),
        Stage("attach_system_disk", Side.ROOT, AttachSystemDiskRequest, UndoRequest, 120),
        Stage("patch_rootfs", Side.ROOT, PatchRootfsRequest, None, 60),
        Stage("work_disk", Side.WORK, WorkDiskRequest, UndoRequest, 180),
        Stage("tap", Side.ROOT, TapRequest, UndoRequest, 30),
        Stage("launch", Side.ROOT, LaunchRequest, KillRequest, 240),
        Stage("wait_ready", Side.WORK, WaitReadyRequest, None, 620, waits=True),
        Stage("file_sync", Side.WORK, FileSyncRequest, None, 150),
        Stage("exec", Side.WORK, ExecRequest, None, 24 * 3600 + 20, attempts=1, waits=True, tells=True),
        Stage("upload", Side.WORK, UploadRequest, None, 660, waits=True),
        Stage("work", Side.WORK, WorkRequest, None, 24 * 3600 + 60, attempts=1, waits=True, tells=True),
        Stage("collect", Side.WORK, CollectRequest, None, 660, waits=True, tells=True),
        Stage("guest_shutdown", Side.WORK, GuestShutdownRequest, None, 620, waits=True),
        Stage("grow_work_disk", Side.WORK, GrowWorkDiskRequest, None, 180),
        Stage("update_spec", Side.WORK, UpdateSpecRequest, None, 10),
    )
}


def tasks_of(side: Side) -> Iterator[tuple[str, Direction]]:
    """Yield the stages of a side, each in the directions that it has: what that side's app registers."""
    for stage in STAGES.values():
        if stage.side is side:
            if stage.do:
                yield stage.name, "do"
            if stage.undo:
                yield stage.name, "undo"
