"""``unwind``: send every undo of a failed job, last row first. Sent again, it sends what is left.

It is also how a step says that it has come back too late, and lets go of its VM: where its job is unwound no
more, whichever job has the VM by now may have waited for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from banger.pipelines import PIPELINES
from banger.planning import unwinding_calls
from banger.records import GOING_ON
from workers.decisions import stands_still

if TYPE_CHECKING:
    from banger.orders import Unwinding
    from workers.farmhand import Farmhand


def run(farmhand: Farmhand, order: Unwinding) -> None:
    """Unwind the job, or have the one gone on with that has its VM now, unless somebody is at that."""
    records = farmhand.records
    job = records.job(order.job)
    record = records.get(job.vm) if job else None
    if job is None or record is None:
        return
    if job.state == "unwinding":
        if left := job.left_of(unwinding_calls(PIPELINES[job.pipeline], record, job)):
            farmhand.dispatch(left)
        return
    holder = records.job(record.job) if record.job else None
    if holder and holder.state in GOING_ON and stands_still(holder, records.now(), at_once=True):
        farmhand.ring(holder)
