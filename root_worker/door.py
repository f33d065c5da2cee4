"""The door: every message to root passes here, between broker and pool, before any of its code runs.

A check in a signal, in ``before_start`` or in the task's body can be passed by (errbacks, built-in
tasks, eta); this one stands in Celery's Strategy, which makes a message a request, for every task of
the app. What is let in is built anew from the ticket; of the message only the chain's tail is kept,
made anew too: root publishes it to its own host's two queues and never runs it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from celery import Task
from celery.worker import strategy

from banger.contracts.errors import PolicyError
from banger.contracts.policy import Policy, check
from banger.contracts.root_message import body_of, headers_of, printable, ticket_of
from banger.contracts.tickets import Claims, TicketKey, open_ticket
from root_worker.audit import Audit
from root_worker.ledger import Ledger


class Door(NamedTuple):
    """What the door knows: this host's limits, whose signature counts, what was used, and where to tell."""

    policy: Policy
    keys: Callable[[], tuple[TicketKey, ...]]
    ledger: Ledger
    audit: Audit

    def open(self, headers: Mapping[str, Any], content_type: str, payload: Any) -> Claims:
        """Return the claims of a message's one ticket; PolicyError unless all about it is as it must be."""
        ticket = ticket_of(content_type, payload)
        claims = open_ticket(ticket, host=self.policy.host, keys=self.keys(), now=time.time())
        if (claims.task, claims.task_id) != (headers.get("task"), headers.get("id")):
            raise PolicyError("the message is not the one that the ticket was made for")
        check(claims.call.parse_request(), self.policy)
        if self.ledger.is_spent(claims.nonce):
            raise PolicyError("the ticket was used before")
        return claims

    def refuse(self, error: Exception | str, headers: Any = None) -> bool:
        """Tell of a message that is not let in; True while there are masses of them."""
        said = headers if isinstance(headers, dict) else {}
        return self.audit.refused(
            printable(error), task=printable(said.get("task")), id=printable(said.get("id"))
        )


class RootTask(Task[Any, Any]):
    """The base of all tasks of the root app, Celery's built-in ones too (``Celery(task_cls=…)``)."""

    abstract = True
    Strategy = "root_worker.door:guarded"


def guarded(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """Return the message handler of one task: refuse, or rebuild and hand on to Celery's own."""
    door: Door = app.conf.banger_door
    handle = strategy.default(task, app, consumer)

    def on_message(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        try:
            rebuild(message, door.open(message.headers, message.content_type, message.payload))
        except Exception as error:  # whatever a message makes us stumble over is a reason to refuse it
            consumer.refuse(message, error)
            return None
        return handle(message, None, ack, reject, callbacks)

    return on_message


def rebuild(message: Any, claims: Claims) -> None:
    """Make body and headers anew (``banger.contracts.root_message``); PolicyError where that cannot be."""
    message.body = json.dumps(body_of(claims, message.payload[2]))
    message.headers = headers_of(claims, message.headers)
    message.content_encoding = "utf-8"
    message._decoded_cache = None  # kombu keeps the decoded body; it must be read anew
