"""Ring again: a message can be lost, a worker can die. Jobs of this host that stand still are sent anew.

Sending again is safe: a step that is done is passed over, one that is claimed is left to its holder.
VMs whose time to live is over are deleted here too, after the job that is at them was cancelled.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from banger.events import Events
from banger.pipelines import DELETE, KILL, PIPELINES
from banger.states import State
from workers.intents import remember

if TYPE_CHECKING:
    from banger.records import Job, Record
    from workers.farmhand import Farmhand

log = logging.getLogger("banger.reconcile")

_STILL_S = 30.0
_MOST_DOUBLINGS = 5  # a quarter of an hour
_TRY_AGAIN_S = 600.0


def look_after(farmhand: Farmhand) -> None:
    """Look once at every VM of this host."""
    now = time.time()
    ours = [record for record in farmhand.records.all() if record.host == farmhand.host.name]
    for record in ours:
        job = farmhand.records.job(record.job) if record.job else None
        if record.job is None and record.slot is not None:
            remember(farmhand.host.paths, record)
        if record.expires_at is not None and record.expires_at < now:
            _expire(farmhand, record, job, now)
        if job is not None and stands_still(job, now):
            _ring(farmhand, record, job)
    if inventory := farmhand.records.inventory(farmhand.host.name):
        for record in farmhand.vanished.of(ours, inventory):
            log.warning("the VMM of VM %s (%s) is gone", record.id, record.name)
            farmhand.ring_begin(record.id, KILL.name)


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
        farmhand.ring_begin(record.id, DELETE.name)


def _quiet_s(farmhand: Farmhand, record: Record, now: float) -> float:
    """Return for how long nothing has happened to a VM: a delete that failed is not tried all the time."""
    return now - int(Events(farmhand.records.redis).last_id(record.id).partition("-")[0]) / 1000


def _ring(farmhand: Farmhand, record: Record, job: Job) -> None:
    farmhand.records.rang(job.id)
    if job.state == "unwinding":
        farmhand.ring_unwind(job.id)
    elif job.state == "running":
        farmhand.ring_begin(record.id, job.pipeline, job.id)
