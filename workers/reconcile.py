"""Ring again: a message can be lost, a worker can die. Jobs of this host that stand still are sent anew.

Sending again is safe: a step that is done is passed over, one that is claimed is left to its holder.
VMs whose time to live is over are deleted here too, after the job that is at them was cancelled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from banger.contracts.names import new_id
from banger.contracts.queues import BEGIN, work_queue
from banger.dispatch import send
from banger.events import Events
from banger.pipelines import DELETE, PIPELINES
from banger.states import State

if TYPE_CHECKING:
    from banger.records import Job, Record
    from workers.farmhand import Farmhand

_STILL_S = 30.0
_MOST_DOUBLINGS = 5  # a quarter of an hour
_TRY_AGAIN_S = 600.0


def ring_again(farmhand: Farmhand) -> None:
    """Look once at every VM of this host."""
    now = time.time()
    for record in farmhand.records.all():
        if record.host != farmhand.host.name:
            continue
        job = farmhand.records.job(record.job) if record.job else None
        if record.expires_at is not None and record.expires_at < now:
            _expire(farmhand, record, job, now)
        if job is not None and stands_still(job, now):
            _ring(farmhand, record, job)


def stands_still(job: Job, now: float) -> bool:
    """Tell whether nobody works at the job: no live claim, and nothing written for half a minute.

    Each ring that nothing came of doubles that time: where the job's message is not lost but waits behind
    many others, more messages would make it wait longer.
    """
    if any(int(claim.split("|")[1]) / 1000 > now for claim in job.claims):
        return False
    return now - job.touched_ms / 1000 > _STILL_S * (1 << min(job.rings, _MOST_DOUBLINGS))


def _expire(farmhand: Farmhand, record: Record, job: Job | None, now: float) -> None:
    if job is not None:
        if PIPELINES[job.pipeline].cancellable:
            farmhand.records.cancel(job.id)
    elif record.state is not State.ERROR or _quiet_s(farmhand, record, now) > _TRY_AGAIN_S:
        _begin(farmhand, record.id, new_id(), DELETE.name)


def _quiet_s(farmhand: Farmhand, record: Record, now: float) -> float:
    """Return for how long nothing has happened to a VM: a delete that failed is not tried all the time."""
    return now - int(Events(farmhand.records.redis).last_id(record.id).partition("-")[0]) / 1000


def _ring(farmhand: Farmhand, record: Record, job: Job) -> None:
    farmhand.records.rang(job.id)
    if job.state == "unwinding":
        farmhand.ring_unwind(job.id)
    elif job.state == "running":
        _begin(farmhand, record.id, job.id, job.pipeline)


def _begin(farmhand: Farmhand, vm_id: str, job: str, pipeline: str) -> None:
    send(
        farmhand.app,
        BEGIN,
        work_queue(farmhand.host.name),
        {"vm": vm_id, "job": job, "pipeline": pipeline, "params": {}},
    )
