"""What happened, as Redis streams: one for each VM (its timeline), one for the whole farm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from banger.connection import FarmRedis
from banger.contracts.journal import FARM_EVENTS, vm_events_key
from banger.contracts.queues import Direction


class Event(BaseModel):
    """One line of a timeline. ``at`` in epoch seconds, ``ms`` how long the step took.

    ``kind``: found (why reconcile begins a job), begun, refused (a job was not begun), started, finished,
    failed (a step), overdue (a job takes longer than it may), rebooted (its host was, and the job does all of
    its steps once more), settled (a job ended and left the VM in ``state``). Of no job: filling (80 % of
    the room for changes to its system disk are used), full, invalid.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    at: float
    kind: str
    vm: str
    job: str
    pipeline: str = ""
    stage: str = ""
    direction: Direction = "do"
    unwinding: bool = False
    host: str = ""
    queue: str = ""
    ms: float | None = None
    state: str | None = None
    data: dict[str, Any] = {}
    error: dict[str, Any] | None = None


def event_json(kind: str, vm_id: str, job: str, pipeline: str, **more: Any) -> str:
    """Return an event as the streams hold it."""
    event = {"kind": kind, "vm": vm_id, "job": job, "pipeline": pipeline} | more
    return json.dumps(event, separators=(",", ":"))


class Events:
    """Reads the streams."""

    def __init__(self, client: FarmRedis) -> None:
        self._redis: Any = client

    def read(self, vm_id: str | None = None, *, after: str | None = None) -> list[Event]:
        """Return what is recorded, oldest first: a VM's timeline, or the farm's."""
        entries = self._redis.xrange(_key(vm_id), min=f"({after}" if after else "-")
        return [parse_event(entry_id, fields) for entry_id, fields in entries]

    def last_id(self, vm_id: str) -> str:
        """Return the id of the VM's newest event, ``0`` where there is none: what comes after is news."""
        newest = self._redis.xrevrange(vm_events_key(vm_id), count=1)
        return str(newest[0][0]) if newest else "0"

    def follow(
        self, vm_id: str | None = None, *, after: str = "$", idle_s: float = 1.0
    ) -> Iterator[Event | None]:
        """Yield events as they come, for ever; None whenever ``idle_s`` seconds passed without one.

        ``after`` is the id of the last event seen, ``0`` for all, ``$`` for those to come.
        """
        key = _key(vm_id)
        while True:
            reply = self._redis.xread({key: after}, block=max(1, int(idle_s * 1000)), count=100)
            for _, entries in reply or []:
                for entry_id, fields in entries:
                    after = entry_id
                    yield parse_event(entry_id, fields)
            if not reply:
                yield None


def _key(vm_id: str | None) -> str:
    return vm_events_key(vm_id) if vm_id else FARM_EVENTS


def parse_event(entry_id: str, fields: dict[str, str]) -> Event:
    """Return a stream entry as an event."""
    at = int(entry_id.partition("-")[0]) / 1000
    return Event.model_validate(json.loads(fields["e"]) | {"id": entry_id, "at": at})
