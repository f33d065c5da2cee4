"""``reserve``, on the control queue: a unique name, a host by capacity, a slot on it, and the record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from banger.contracts.errors import BangerError, CapacityError, NotFoundError, UnavailableError
from banger.contracts.queues import BEGIN, work_queue
from banger.dispatch import send
from banger.pipelines import PIPELINES
from banger.placement import Candidate, place
from workers import begin

if TYPE_CHECKING:
    from banger.contracts.spec import VmSpec
    from banger.orders import NewVm
    from workers.farmhand import Farmhand


def run(farmhand: Farmhand, order: NewVm) -> None:
    """Reserve what was ordered and begin, here or on the chosen host, or refuse."""
    if farmhand.records.job(order.job) is not None:
        return  # delivered again: the reservation stands, or its VM has come and gone
    try:
        host = _reserve(farmhand, order)
    except UnavailableError:
        raise  # as in ``begin``
    except BangerError as error:
        farmhand.records.refuse(order.vm, order.job, order.pipeline, error.to_wire())
        return
    if host == farmhand.host.name:
        begin.run(farmhand, order)  # we are whom we would ring
    else:
        message = order.model_dump(mode="json", exclude={"spec"}, exclude_none=True)
        send(farmhand.app, BEGIN, work_queue(host), message)


def _reserve(farmhand: Farmhand, order: NewVm) -> str:
    since, spec = time.monotonic(), order.spec
    try:
        candidates = _place(farmhand, spec)
    except (NotFoundError, CapacityError):
        farmhand.beat()  # what was built or installed a moment ago may not have been announced yet
        candidates = _place(farmhand, spec)
    pipeline, params = PIPELINES[order.pipeline], order.params.model_dump(exclude_none=True)
    for host, image in candidates:
        if farmhand.records.reserve(order.vm, order.job, pipeline, spec, host, image, since=since, **params):
            return host.name
    raise CapacityError(
        "no host can take this VM",
        details=f"{len(candidates)} had room, and filled up in the same moment",
        resolution="Try again.",
    )


def _place(farmhand: Farmhand, spec: VmSpec) -> list[Candidate]:
    hosts = farmhand.records.hosts()
    return place(spec, hosts, {host.name: farmhand.records.used(host.name) for host in hosts})
