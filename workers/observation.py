"""Gather what is known of this host. Reads only.

In this order: what root said, the host's files, what Redis has. So a file is never younger than its record,
but for the record that is about to be written; and what is being removed is missing from the records last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from banger.batch.vms import batch_labels
from banger.contracts.names import HostPaths, is_id
from banger.contracts.states import State
from banger.events import Events
from banger.pipelines import PIPELINES
from banger.planning import calls, unwinding_calls
from workers import intents
from workers.decisions import Facts
from workers.rings import Processes

if TYPE_CHECKING:
    from banger.records import Job, Record
    from workers.farmhand import Farmhand


def observe(farmhand: Farmhand) -> Facts:
    """Return the facts of this moment."""
    records, host = farmhand.records, farmhand.host
    inventory = records.inventory(host.name)
    directories = {path.name for path in host.paths.vms.iterdir() if is_id(path.name)}
    removed = _half_removed(host.paths)
    intended = {record.id: record for record in intents.all_of_them(host.paths) if record.host == host.name}
    unclear = {vm_id for vm_id in directories - intended.keys() if host.paths.intent(vm_id).exists()}
    processes = Processes(records.redis_run_id(), inventory.incarnation if inventory else None)
    now, everyone = records.now(), records.all()
    ours = {record.id: record for record in everyone if record.host == host.name}
    jobs = {record.job: job for record in ours.values() if record.job and (job := records.job(record.job))}
    going_on = {job_id: job for job_id, job in jobs.items() if job.state in ("running", "unwinding")}
    return Facts(
        now=now,
        records=ours,
        others={record.id for record in everyone} - ours.keys(),
        jobs=going_on,
        last_steps={
            record.id: _last_steps(farmhand, record, going_on[record.job])
            for record in ours.values()
            if record.job in going_on and record.id in intended and intended[record.id].rev > record.rev
        },
        quiet_s={
            record.id: now - _last_event(farmhand, record.id)
            for record in ours.values()
            if record.state is State.ERROR
        },
        over={
            record.id
            for record in ours.values()
            if record.job not in going_on and _is_over(farmhand, record, now)
        },
        intents=intended,
        unclear=unclear,
        directories=directories,
        removed=removed,
        inventory=inventory,
        living={farmhand.journal.incarnation, inventory.incarnation} if inventory else None,
        boot=farmhand.journal.boot,
        rebooted=farmhand.reboot.pending,
        processes=processes,
        somebody_died=farmhand.rings.due(processes),
    )


def _is_over(farmhand: Farmhand, record: Record, now: float) -> bool:
    """Tell whether a batch was what the VM was for, and has no use for it any more."""
    if record.slot is None or (labels := batch_labels(record)) is None:
        return False
    return farmhand.batches.is_over(*labels, record.id, now)


def _half_removed(paths: HostPaths) -> set[str]:
    names = (path.name.removeprefix(".removed-") for path in paths.vms.glob(".removed-*"))
    return {name for name in names if is_id(name)}


def _last_steps(farmhand: Farmhand, record: Record, job: Job) -> list[str]:
    pipeline, host = PIPELINES[job.pipeline], farmhand.host
    ways = [calls(pipeline, record, job, host.network, host.uid_base)]
    if job.state == "unwinding":
        ways.append(unwinding_calls(pipeline, record, job))
    return [steps[-1].step for steps in ways]


def _last_event(farmhand: Farmhand, vm_id: str) -> float:
    return int(Events(farmhand.records.redis).last_id(vm_id).partition("-")[0]) / 1000
