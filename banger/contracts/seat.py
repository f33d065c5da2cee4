"""A host's seat: one machine at a time serves under a host's name, and Redis knows which.

Both workers of a machine ask for it before they take a message, and with each heartbeat. A machine is known
by the random id that it was given at its first start; where it is, its *place*, by its boot and that file.
A copy, id and all, is in another place; so is a machine that was rebooted, but its former place is silent.

Another may take the seat when its holder was silent between two asks, ten seconds apart: silence while Redis
was away does not count. Not where VMs are on a holder of another id: they would be taken for lost.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from banger.contracts.boot import boot_id
from banger.contracts.errors import ConflictError
from banger.contracts.journal import SERVING_TTL_S, Redis, leases_key
from banger.contracts.names import HostPaths

_ASK_S = 2.0

log = logging.getLogger("banger.seat")

_TAKE = """
local seat, leases = unpack(KEYS)
local id, place, silence_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000))
local held = redis.call('HMGET', seat, 'id', 'place', 'at', 'rival_saw', 'rival_since')
if held[1] and (held[1] ~= id or held[2] ~= place) then
  local vms = redis.call('HLEN', leases)
  if held[1] ~= id and vms > 0 then return {held[1], vms} end
  if held[4] ~= held[3] then redis.call('HSET', seat, 'rival_saw', held[3], 'rival_since', now) end
  if held[4] ~= held[3] or now - held[5] < silence_ms then return {held[1], 0} end
  redis.call('HDEL', seat, 'rival_saw', 'rival_since')
end
redis.call('HSET', seat, 'id', id, 'place', place, 'at', now)
return {}
"""


class Machine(NamedTuple):
    """Who asks for a seat."""

    id: str
    place: str


def seat_key(host: str) -> str:
    """Return the key of a host's seat (a hash): the machine's id and place, and when it was heard (ms)."""
    return f"banger:host:{host}:seat"


def this_machine(paths: HostPaths) -> Machine:
    """Return who this is; OSError where it was never given an id."""
    found = paths.host_id.stat()
    place = f"{boot_id()}:{found.st_dev}:{found.st_ino}"
    return Machine(paths.host_id.read_text().strip(), place)


def refused(host: str, paths: HostPaths, seat: Mapping[str, str]) -> ConflictError | None:
    """Return why this machine does not serve, by what ``seat_key`` holds; None where it may."""
    ours = this_machine(paths)
    if not seat or (seat["id"], seat["place"]) == ours:
        return None
    return taken(host, paths, ours.id, seat["id"], vms=0)


def taken(host: str, paths: HostPaths, ours: str, holder: str, *, vms: int) -> ConflictError:
    """Return the error of a machine whose host's name is another's: what, why, what to do."""
    brief, when = f"another machine serves the host {host}", "Give"
    if holder == ours:
        brief, when = f"the host {host} is served under this machine's own id", "Where that goes on, give"
        why = f"by its last boot, which is over when it was silent for {SERVING_TTL_S} s, or by a copy of it"
        rest = f"for an id of its own, remove {paths.host_id} and do `sudo banger farm up`"
    else:
        on_it = f", and {vms} VMs are on it" if vms else ""
        why = f"it is {holder}, this one is {ours}{on_it}"
        rest = f"if it is this machine, installed anew, write {holder} into {paths.host_id}"
    return ConflictError(
        brief,
        details=why,
        resolution=f"{when} this machine a name of its own (BANGER_HOST, or host in the settings); {rest}.",
    )


class Seat:
    """This host's seat, as one of its workers asks for it. ``client`` gives the line to Redis when asked."""

    def __init__(self, client: Callable[[], Redis], host: str, paths: HostPaths) -> None:
        self._client = client
        self._host = host
        self._paths = paths

    def take(self) -> None:
        """Take the seat, or keep it; ConflictError where another machine has it."""
        ours, keys = this_machine(self._paths), (seat_key(self._host), leases_key(self._host))
        reply = self._client().eval(_TAKE, len(keys), *keys, *ours, SERVING_TTL_S * 1000)
        if reply:
            holder = reply[0].decode() if isinstance(reply[0], bytes) else str(reply[0])
            raise taken(self._host, self._paths, ours.id, holder, vms=int(reply[1]))

    def wait(self, stopping: threading.Event) -> None:
        """Return when the seat is ours, or the worker is to stop; say why that takes long."""
        said = ""
        while True:
            try:
                self.take()
            except Exception as error:  # it is another's, or Redis is away
                if said != (said := str(error)):
                    log.warning("nobody is served: %s", error)
            else:
                return
            if stopping.wait(_ASK_S):
                return

    def keep(self) -> None:
        """Keep the seat. Where it has become another's, this process ends, and the next one waits."""
        try:
            self.take()
        except ConflictError as error:
            log.critical("%s", error)
            os._exit(1)
