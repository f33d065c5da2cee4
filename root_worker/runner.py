"""How a step runs as root: its ticket used up, claimed, done, reported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from banger.contracts.audit import audit_key
from banger.contracts.errors import BangerError
from banger.contracts.inventory import INVENTORY_TTL_S, inventory_key
from banger.contracts.journal import SERVING_TTL_S, serving_key
from banger.contracts.names import new_id
from banger.contracts.overdue import AtWork, WatchedJournal
from banger.contracts.queues import root_queue
from banger.contracts.runner import Next, run_step
from banger.contracts.seat import Seat
from banger.contracts.tickets import Claims
from root_worker.door import Door
from root_worker.host import RootHost
from root_worker.inventory import Stock
from root_worker.ops.lock import take
from root_worker.stages import EFFECTS

log = logging.getLogger("root_worker")

_HEARTBEAT_S = 2.0


class RootRunner:
    """What the root worker's tasks share. Thread-safe. ``client`` gives the line to Redis when asked."""

    def __init__(self, host: RootHost, door: Door, client: Callable[[], Any]) -> None:
        self._host = host
        self._door = door
        self._client = client
        self._stopping = threading.Event()
        self._incarnation = new_id()
        self._seat = Seat(client, host.policy.host, host.paths)
        self._stock = Stock(host, self._incarnation)
        self._at_work: AtWork = {}
        self._effects = {key: partial(effect, host=host) for key, effect in EFFECTS.items()}

    def run(self, claims: Claims) -> tuple[Next, BangerError | None]:
        """Run one step; a request that the policy refuses fails like any other.

        Its ticket is used up first. Should this worker die meanwhile, another is sealed when the job is
        rung again; nobody who kept this one gets anything for it.
        """
        call, audit = claims.call, self._door.audit
        about = {"id": claims.task_id, "task": claims.task, "generation": call.generation}
        if not self._door.ledger.spend(claims.nonce, claims.expires):
            audit.refused("the ticket was used before", **about)
            return Next.STOP, None
        audit.write("began", **about, nonce=claims.nonce)
        after, error = run_step(call, self._journal(), self._effects)
        audit.write("ended", **about, next=after.value, error=error.brief if error else None)
        return after, error

    def _journal(self) -> WatchedJournal:
        return WatchedJournal(self._client(), self._incarnation, self._at_work)

    def start(self, **_: Any) -> None:
        """Begin to say that root is there, once no other process is: what that had begun is ours then."""
        take(self._host.policy.paths.registry / ".worker.lock")  # for life
        self._seat.wait(self._stopping)
        threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True).start()

    def stop(self, **_: Any) -> None:
        """Stop saying so."""
        self._stopping.set()

    def _keep_beating(self) -> None:
        while True:  # the first one too may fail, for want of Redis, and must not be the last
            try:
                self._beat()
            except Exception:
                log.exception("heartbeat failed; it will be tried again")
            if self._stopping.wait(_HEARTBEAT_S):
                return

    def _beat(self) -> None:
        self._host.registry.keep_ballast()  # before Redis, which may need it
        self._seat.keep()
        self._journal().give_up()
        host, client = self._host.policy.host, self._client()
        self._door.keys()  # who cannot read whom to trust serves nobody, and says so
        client.hset(audit_key(host), mapping=self._door.audit.published())
        found = self._stock.take()
        client.set(inventory_key(host), found.model_dump_json(), ex=INVENTORY_TTL_S)
        client.set(serving_key(root_queue(host)), "1", ex=SERVING_TTL_S)
