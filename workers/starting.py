"""Begin those jobs of batches that wait and that there is room for, in order, fairly, each placed first."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from banger.batch.sharing import Line, Room, next_line, parallel_of
from banger.batch.vms import as_placed, attempt_order, begun, placed, taken_back
from banger.contracts.errors import BangerError, CancelledError, UnavailableError
from banger.contracts.queues import BEGIN, work_queue
from banger.dispatch import send
from banger.orders import Order
from banger.pipelines import PIPELINES
from banger.placement import Candidate, place
from workers import begin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from banger.batch.state import BatchInfo, JobState
    from banger.batch.vms import Planned
    from banger.orders import NewVm
    from workers.farmhand import Farmhand

log = logging.getLogger("banger.batches")


def begin_waiting(farmhand: Farmhand, plans: Mapping[str, Planned]) -> None:
    """Begin as many as there is room for; each batch is told what its next job waits for otherwise."""
    batches, records = farmhand.batches, farmhand.records
    hosts = records.hosts()
    room = Room(hosts, {host.name: records.used(host.name) for host in hosts})
    lines = []
    for info in batches.active():
        going = batches.going(info.id)
        room.count(going)
        if info.state == "running" and info.id in plans:
            lines.append(Line(info, len(going), parallel_of(info, hosts), info.counts.get("waiting", 0)))
    while (line := next_line(lines)) is not None:
        try:
            begun_one = _begin_next(farmhand, line, plans[line.info.id], room)
        except UnavailableError:
            raise
        except Exception:  # the others must not wait for this one
            log.exception("batch %s: its next job cannot be begun", line.info.id)
            begun_one = False
        if not begun_one:
            lines.remove(line)


def begin_again(farmhand: Farmhand, info: BatchInfo, planned: Planned, state: JobState) -> None:
    """Carry out the order of an attempt once more: nothing has come of it. It has one effect at most."""
    order = attempt_order(farmhand.settings, info, planned, state)
    hosts = farmhand.records.hosts()
    try:
        candidates = place(
            as_placed(info, order.spec),
            hosts,
            {host.name: farmhand.records.used(host.name) for host in hosts},
        )
    except BangerError as error:
        candidates, why = [], _said(error)
    else:
        why = "its host filled up in the same moment"
    _begin(farmhand, info, state, order, candidates, why)


def _begin_next(farmhand: Farmhand, line: Line, planned: Planned, room: Room) -> bool:
    info = line.info
    waiting = next(iter(farmhand.batches.waiting(info.id)), None)
    if waiting is None:
        return False
    state = begun(info, waiting, farmhand.records.now())
    order = attempt_order(farmhand.settings, info, planned, state)
    try:
        candidates = place(as_placed(info, order.spec), room.hosts, room.used_by_batches())
    except BangerError as error:
        farmhand.batches.say_why(info, _said(error))
        return False
    if not farmhand.batches.take(info.id, waiting, state, line.parallel):
        return False
    host = _begin(farmhand, info, state, order, candidates, "its host filled up in the same moment")
    if host is not None:
        room.took(order.spec, host)
        line.took()
    return host is not None


def _begin(
    farmhand: Farmhand,
    info: BatchInfo,
    state: JobState,
    order: NewVm,
    candidates: Sequence[Candidate],
    why: str,
) -> str | None:
    """Reserve a host for an attempt and begin it there; None where none had room, and it waits again."""
    since, params = time.monotonic(), order.params.model_dump(exclude_none=True)
    for host, image in candidates:
        try:
            reserved = farmhand.records.reserve(
                order.vm, order.job, PIPELINES[order.pipeline], order.spec, host, image, since=since, **params
            )
        except UnavailableError:
            raise  # it may be reserved: whoever looks next finds out
        except CancelledError:
            return None  # as it is settled when it is looked at
        except BangerError as error:
            why = _said(error)
            break
        if reserved:
            return _go(farmhand, info, state, order, host.name)
    if not farmhand.batches.give_back(info.id, state, taken_back(state), why):
        log.info("batch %s: job %d has begun after all", info.id, state.index)
    return None


def _go(farmhand: Farmhand, info: BatchInfo, state: JobState, order: NewVm, host: str) -> str:
    """Note where an attempt is carried out, by what was reserved the first time, and have it begun there."""
    record = farmhand.records.get(order.vm)
    where = record.host if record else host
    if state.state == "starting":
        farmhand.batches.placed(info.id, state, placed(state, where))
    going = Order(vm=order.vm, job=order.job, pipeline=order.pipeline, params=order.params)
    if where == farmhand.host.name:
        begin.run(farmhand, going)
    else:
        send(farmhand.app, BEGIN, work_queue(where), going.model_dump(mode="json", exclude_none=True))
    return where


def _said(error: BangerError) -> str:
    """Return why a job cannot be placed, in one line."""
    return ": ".join((error.brief, *filter(None, [error.details.replace("\n", "; ")])))[:500]
