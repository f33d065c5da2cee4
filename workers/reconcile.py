"""Ring again: a message can be lost, a worker can die. Jobs of this host that stand still are sent anew.

Sending again is safe: a step that is done is passed over, one that is claimed is left to its holder. Where a
process of the host's has died (a worker, root's, Redis), whatever it had in hand may be lost: all jobs that
nobody is at are sent at once then, and after half a minute otherwise.
VMs whose time to live is over are deleted here too, after the job that is at them was cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from banger.contracts.states import State
from banger.events import Events
from banger.pipelines import DELETE, KILL, PIPELINES
from workers.deadlines import enforce_deadline
from workers.intents import remember

if TYPE_CHECKING:
    from banger.records import Job, Record
    from workers.farmhand import Farmhand

log = logging.getLogger("banger.reconcile")

_STILL_S = 30.0
_MOST_DOUBLINGS = 5  # a quarter of an hour
_TRY_AGAIN_S = 600.0


class Rings:
    """Notices that a process has died which may have taken messages with it: ourselves, root's, Redis."""

    def __init__(self) -> None:
        self._redis = self._root = ""

    def due(self, redis: str, root: str | None) -> bool:
        """Tell whether either is another process than when this was asked last; yes, the first time.

        Root's is None while nothing is known of it.
        """
        known = (self._redis, self._root)
        self._redis, self._root = redis, root or self._root
        return known[0] != redis or known[1] not in ("", self._root)


def look_after(farmhand: Farmhand) -> None:
    """Look once at every VM of this host."""
    now = farmhand.records.now()
    inventory = farmhand.records.inventory(farmhand.host.name)
    root = inventory.incarnation if inventory else None
    living = {farmhand.journal.incarnation, root} if root else None
    somebody_died = farmhand.rings.due(farmhand.records.redis_run_id(), root)
    ours = [record for record in farmhand.records.all() if record.host == farmhand.host.name]
    for record in ours:
        job = farmhand.records.job(record.job) if record.job else None
        if record.job is None and record.slot is not None:
            remember(farmhand.host.paths, record)
        if record.expires_at is not None and record.expires_at < now:
            _expire(farmhand, record, job, now)
        if job is not None:
            enforce_deadline(farmhand.records, job, now)
        if job is not None and stands_still(job, now, living, at_once=somebody_died):
            _ring(farmhand, record, job)
    if inventory:
        for record in farmhand.vanished.of(ours, inventory):
            log.warning("the VMM of VM %s (%s) is gone", record.id, record.name)
            farmhand.ring_begin(record.id, KILL.name)


def stands_still(
    job: Job, now: float, living: Collection[str] | None = None, *, at_once: bool = False
) -> bool:
    """Tell whether nobody works at the job: no live claim, and nothing written for half a minute. Pure.

    A claim lives no longer than its worker: ``living`` are the incarnations of both, None where root's is
    not known. Each ring that nothing came of doubles the half minute: where the job's message is not lost
    but waits behind many others, more messages would make it wait longer.
    """
    for claim in job.claims:
        holder, until_ms, _ = claim.split("|")
        if int(until_ms) / 1000 > now and (living is None or holder[:12] in living):
            return False
    return at_once or now - job.touched_ms / 1000 > _STILL_S * (1 << min(job.rings, _MOST_DOUBLINGS))


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
