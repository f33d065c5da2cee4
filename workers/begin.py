"""``begin``: give a VM to a job and send its chain. Sent again, it sends what is not done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from banger.contracts.errors import BangerError
from banger.pipelines import PIPELINES
from banger.planning import calls

if TYPE_CHECKING:
    from workers.farmhand import Farmhand


def run(farmhand: Farmhand, payload: dict[str, Any]) -> None:
    """Begin the job ``{job, vm, pipeline, params}``, or refuse it on the VM's event stream."""
    vm_id, job_id, pipeline = payload["vm"], payload["job"], PIPELINES[payload["pipeline"]]
    try:
        record = farmhand.records.begin(vm_id, job_id, pipeline, payload.get("params", {}))
    except BangerError as error:
        farmhand.records.refuse(vm_id, job_id, pipeline.name, error.to_wire())
        return
    job = farmhand.records.job(job_id)
    if job is None or job.state != "running":
        return  # an old message: the job is unwinding or over
    steps = calls(pipeline, record, job, farmhand.host.network, farmhand.host.uid_base)
    if left := job.left_of(steps):
        farmhand.dispatch(left)
