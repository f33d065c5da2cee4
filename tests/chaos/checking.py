"""What is to be so after every kill: each record true, and nothing left once all is deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from chaos_farm import ChaosFarm
from jobs import Ordered, order, wait_for
from snapshot import redeliver, snapshot

from banger.contracts.names import slot, tap_name

SETTLED_S = 20.0  # the spool is swept, and messages are acknowledged, within this after a job's end
_POLL_S = 0.1
_DELETE_S = 60.0
_DELIVERED_S = 60.0


def stays(problems: Callable[[], list[str]], within_s: float = 5.0) -> list[str]:
    """Return the problems that are still there after a while; what has just ended may be on its way."""
    deadline = time.monotonic() + within_s
    while (found := problems()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return found


def delete(farm: ChaosFarm, vm_ids: Sequence[str]) -> list[str]:
    """Delete what is left of these VMs; return what went wrong."""
    there = [vm_id for vm_id in vm_ids if farm.box.admin.get(vm_id)]
    jobs = [order(farm, "delete", vm_id) for vm_id in there]
    for job in jobs:
        job.send()
    late = wait_for(jobs, _DELETE_S)
    wrong = [f"the delete of {job.vm_id} did not end" for job in late]
    return wrong + [
        f"the delete of {job.vm_id} ended {job.state}: {job.refusal or job.events[-2:]}"
        for job in jobs
        if job not in late and job.state != "gone"
    ]


def leaks(farm: ChaosFarm, before: set[str], within_s: float = SETTLED_S) -> list[str]:
    """Return what is there that was not, and what is gone that was there, one line each."""

    def differences() -> list[str]:
        now = snapshot(farm.box)
        return sorted([f"left: {one}" for one in now - before] + [f"lost: {one}" for one in before - now])

    return stays(differences, within_s)


def delivered_again(farm: ChaosFarm) -> list[str]:
    """Have everything delivered again that killed workers had taken; return what was not within a minute."""
    if not stays(lambda: [] if redeliver(farm.box) else ["messages"], _DELIVERED_S):
        return []
    return ["messages of killed workers are not delivered again"]


def tokens(farm: ChaosFarm, job: Ordered, number: int | None) -> tuple[str, ...]:
    """Return what names a VM in lines of a snapshot."""
    names = tuple(filter(None, (job.vm_id, job.job, job.name, tap_name(job.vm_id))))
    if number is None:
        return names
    numbers = slot(number, farm.box.settings.network, farm.box.settings.uid_base)
    return (*names, f" {numbers.address} ", numbers.mac, f"uid {numbers.uid}:")
