"""``begin``: give a VM to a job and send its chain. Sent again, it sends what is not done yet.

In another boot of the host, what a job has made in the kernel is not done any more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from banger.contracts.errors import BangerError, UnavailableError, as_banger_error
from banger.contracts.journal import Verdict
from banger.pipelines import PIPELINES
from banger.planning import bare_calls, calls
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
    try:
        steps = calls(pipeline, record, job, host.network, host.uid_base, names=host.names)
    except Exception as error:  # of an order that should have been refused, or of a record of another version
        log.exception("VM %s: %s (job %s) cannot be planned", vm_id, pipeline.name, job_id)
        _fail(farmhand, job.left_of(bare_calls(pipeline, record, job))[0], as_banger_error(error))
        return
    if is_older(record, job, recall(host.paths, vm_id), (steps[-1].step,)):
        return  # Redis was restored from an older copy: reconcile sees to the VM, and this job ended long ago
    left = job.left_of(steps)
    # Sent again, a ``run`` may be past the stage that has removed the directory for good.
    remember(host.paths, record, make=any(makes_files(call) for call in left))
    if left:
        farmhand.names.follow(record)
        farmhand.dispatch(left)


def _fail(farmhand: Farmhand, call: StageCall, error: BangerError) -> None:
    """Have a job fail at a step that nobody can be asked for: it would be rung for ever, and keep its VM."""
    journal = farmhand.journal
    claim = journal.claim(call, journal.new_token())
    if claim.verdict is Verdict.GO and journal.failed(call, claim.token, 0.0, error) and not call.fails_to:
        farmhand.ring_unwind(call.job)


def makes_files(call: StageCall) -> bool:
    """Tell whether it is the step that fills the VM's directory, which must be there by then."""
    return (call.stage, call.direction) == ("overlay", "do")
