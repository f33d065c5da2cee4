"""Ring again: a message can be lost, a worker can die. Jobs of this host that stand still are sent anew.

Sending again is safe: a step that is done is passed over, one that is claimed is left to its holder.
VMs whose time to live is over are deleted here too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from banger.contracts.names import new_id
from banger.contracts.queues import BEGIN, work_queue
from banger.dispatch import send

if TYPE_CHECKING:
    from banger.records import Job, Record
    from workers.farmhand import Farmhand

_STILL_S = 30.0


def ring_again(farmhand: Farmhand) -> None:
    """Look once at every VM of this host."""
    for record in farmhand.records.all():
        if record.host != farmhand.host.name:
            continue
        job = farmhand.records.job(record.job) if record.job else None
        if job is not None and stands_still(job, time.time()):
            _ring(farmhand, record, job)
        elif record.job is None and record.expires_at is not None and record.expires_at < time.time():
            _begin(farmhand, record.id, new_id(), "delete")


def stands_still(job: Job, now: float) -> bool:
    """Tell whether nobody works at the job: no live claim, and nothing written for half a minute."""
    claims = [mark.split("|") for mark in job.steps.values() if mark not in ("done", "failed")]
    if any(int(until_ms) / 1000 > now for _, until_ms, _ in claims):
        return False
    return now - job.touched_ms / 1000 > _STILL_S


def _ring(farmhand: Farmhand, record: Record, job: Job) -> None:
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
