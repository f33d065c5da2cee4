"""``reserve``, on the control queue: a unique name, a host by capacity, a slot on it, and the record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from banger.contracts.errors import BangerError, CapacityError, InvalidInputError, NotFoundError
from banger.contracts.queues import BEGIN, work_queue
from banger.contracts.spec import VmSpec
from banger.dispatch import send
from banger.pipelines import PIPELINES
from banger.placement import Candidate, place
from workers import begin

if TYPE_CHECKING:
    from workers.farmhand import Farmhand


def run(farmhand: Farmhand, payload: dict[str, Any]) -> None:
    """Reserve for ``{vm, job, pipeline, spec, params}`` and begin, here or on the chosen host, or refuse."""
    if farmhand.records.job(payload["job"]) is not None:
        return  # delivered again: the reservation stands, or its VM has come and gone
    try:
        host = _reserve(farmhand, payload)
    except BangerError as error:
        farmhand.records.refuse(payload["vm"], payload["job"], payload["pipeline"], error.to_wire())
        return
    message = {key: payload[key] for key in ("vm", "job", "pipeline", "params")}
    if host == farmhand.host.name:
        begin.run(farmhand, message)  # we are whom we would ring
    else:
        send(farmhand.app, BEGIN, work_queue(host), message)


def _reserve(farmhand: Farmhand, payload: dict[str, Any]) -> str:
    since = time.monotonic()
    try:
        spec = VmSpec.model_validate(payload["spec"])
    except ValidationError as error:
        raise InvalidInputError("the VM's specification is not valid", details=str(error)) from None
    try:
        candidates = _place(farmhand, spec)
    except NotFoundError:
        farmhand.beat()  # an image built a moment ago may not have been announced yet
        candidates = _place(farmhand, spec)
    pipeline = PIPELINES[payload["pipeline"]]
    for host, image in candidates:
        if farmhand.records.reserve(
            payload["vm"], payload["job"], pipeline, spec, host, image, since=since, **payload["params"]
        ):
            return host.name
    raise CapacityError(
        "no host can take this VM",
        details=f"{len(candidates)} had room, and filled up in the same moment",
        resolution="Try again.",
    )


def _place(farmhand: Farmhand, spec: VmSpec) -> list[Candidate]:
    hosts = farmhand.records.hosts()
    return place(spec, hosts, {host.name: farmhand.records.used(host.name) for host in hosts})
