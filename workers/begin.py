"""``begin``: give a VM to a job and send its chain. Sent again, it sends what is not done yet.

In another boot of the host, what a job has made in the kernel is not done any more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from banger.contracts.errors import BangerError, UnavailableError
from banger.pipelines import PIPELINES
from banger.planning import calls
from workers.decisions import is_older
from workers.intents import recall, remember
from workers.reboot import to_do_again

if TYPE_CHECKING:
    from banger.contracts.calls import StageCall
    from banger.orders import Order
    from workers.farmhand import Farmhand

log = logging.getLogger("banger.workers")


def run(farmhand: Farmhand, order: Order) -> None:
    """Begin the job that was ordered, or refuse it on the VM's event stream."""
    vm_id, job_id, pipeline = order.vm, order.job, PIPELINES[order.pipeline]
    try:
        params = order.params.model_dump(exclude_none=True)
        record = farmhand.records.begin(vm_id, job_id, pipeline, params, order.rev)
    except UnavailableError:
        raise  # it may have begun: no refusal. Whoever ordered it, or reconcile, sends it again
    except BangerError as error:
        if order.rev is not None:  # reconcile asked, and looks again
            log.info("VM %s: no %s: %s", vm_id, pipeline.name, error.brief)
            return
        farmhand.records.refuse(vm_id, job_id, pipeline.name, error.to_wire())
        return
    job = farmhand.records.job(job_id)
    if job is not None and job.boot != farmhand.journal.boot:
        farmhand.records.take_up(job, farmhand.journal.boot, to_do_again(job))
        record, job = farmhand.records.get(vm_id) or record, farmhand.records.job(job_id)
    if job is None or job.state != "running":
        return  # an old message: the job is unwinding or over
    host = farmhand.host
    steps = calls(pipeline, record, job, host.network, host.uid_base, names=host.names)
    if is_older(record, job, recall(host.paths, vm_id), (steps[-1].step,)):
        return  # Redis was restored from an older copy: reconcile sees to the VM, and this job ended long ago
    left = job.left_of(steps)
    # Sent again, a ``run`` may be past the stage that has removed the directory for good.
    remember(host.paths, record, make=any(makes_files(call) for call in left))
    if left:
        farmhand.names.follow(record)
        farmhand.dispatch(left)


def makes_files(call: StageCall) -> bool:
    """Tell whether it is the step that fills the VM's directory, which must be there by then."""
    return (call.stage, call.direction) == ("overlay", "do")
