"""``unwind``: send every undo of a failed job, last row first. Sent again, it sends what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from banger.pipelines import PIPELINES
from banger.planning import unwinding_calls

if TYPE_CHECKING:
    from banger.orders import Unwinding
    from workers.farmhand import Farmhand


def run(farmhand: Farmhand, order: Unwinding) -> None:
    """Unwind the job."""
    job = farmhand.records.job(order.job)
    record = farmhand.records.get(job.vm) if job else None
    if job is None or record is None or job.state != "unwinding":
        return
    steps = unwinding_calls(PIPELINES[job.pipeline], record, job)
    if left := job.left_of(steps):
        farmhand.dispatch(left)
