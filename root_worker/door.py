"""The door: every message to root passes here, between broker and pool, before any of its code runs.

A check in a signal, in ``before_start`` or in the task's body can be passed by (errbacks, built-in
tasks, eta); this one stands in Celery's Strategy, which makes a message a request, for every task of
the app. What is let in is built anew from the ticket; of the message only the chain's tail is kept,
made anew too: root publishes it to its own host's two queues and never runs it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from celery import Task
from celery.worker import strategy

from banger.contracts.errors import PolicyError
from banger.contracts.queues import root_queue, work_queue
from banger.contracts.tickets import Claims, TicketKey, open_ticket
from root_worker.audit import Audit
from root_worker.ledger import Ledger
from root_worker.policy import Policy, check

_TASK_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}-u?[0-9]{2}-[a-z_]+")


class Door(NamedTuple):
    """What the door knows: this host's limits, whose signature counts, what was used, and where to tell."""

    policy: Policy
    keys: Callable[[], tuple[TicketKey, ...]]
    ledger: Ledger
    audit: Audit

    def open(self, headers: Mapping[str, Any], content_type: str, payload: Any) -> Claims:
        """Return the claims of a message's one ticket; PolicyError unless all about it is as it must be."""
        if content_type != "application/json":
            raise PolicyError(f"content type {content_type!r}")
        try:
            args, kwargs, _embed = payload
        except (TypeError, ValueError):
            raise PolicyError("the body is not one of Celery's second protocol") from None
        if not isinstance(args, list) or len(args) != 1 or kwargs:
            raise PolicyError("a root message carries one ticket and nothing else")
        claims = open_ticket(args[0], host=self.policy.host, keys=self.keys(), now=time.time())
        if (claims.task, claims.task_id) != (headers.get("task"), headers.get("id")):
            raise PolicyError("the message is not the one that the ticket was made for")
        check(claims.call.parse_request(), self.policy)
        if self.ledger.is_spent(claims.nonce):
            raise PolicyError("the ticket was used before")
        return claims

    def refuse(self, error: Exception | str, headers: Any = None) -> bool:
        """Tell of a message that is not let in; True while there are masses of them."""
        said = headers if isinstance(headers, dict) else {}
        return self.audit.refused(_clean(error), task=_clean(said.get("task")), id=_clean(said.get("id")))


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
    """Make body and headers from the claims: no errbacks, callbacks, eta, expiry, time limits or stamps.

    ``root_id`` and ``parent_id`` only link a chain's tasks for whoever watches; they are kept where they
    look like ours. PolicyError when the chain's tail leads anywhere but to this host's own queues.
    """
    embed, headers, call = message.payload[2], message.headers, claims.call
    tail = [_link(link, call.host) for link in (embed.get("chain") or [])]
    message.headers = {
        "lang": "py",
        "task": claims.task,
        "id": claims.task_id,
        "root_id": _task_id(headers.get("root_id")) or claims.task_id,
        "parent_id": _task_id(headers.get("parent_id")),
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": f"vm={call.vm_id} job={call.job} stage={call.stage} generation={call.generation}",
        "kwargsrepr": "",
        "origin": "ticket",
        "ignore_result": True,
    }
    embed = {"callbacks": None, "errbacks": None, "chord": None, "chain": tail or None}
    body = [[claims.model_dump(mode="json")], {}, embed]
    message.body = json.dumps(body)
    message.content_encoding = "utf-8"
    message._decoded_cache = None  # kombu keeps the decoded body; it must be read anew


def _link(link: Any, host: str) -> dict[str, Any]:
    """Return one link of a chain's tail, made anew of what is needed to publish it."""
    options = link["options"]
    if options["queue"] not in (work_queue(host), root_queue(host)):
        raise PolicyError(f"the chain leads to the queue {options['queue']!r}")
    if not str(link["task"]).startswith("banger.") or not _task_id(options["task_id"]):
        raise PolicyError(f"the chain leads to the task {link['task']!r}")
    kept = {name: options[name] for name in ("queue", "task_id", "argsrepr", "kwargsrepr")}
    return {
        "task": link["task"],
        "args": link["args"],
        "kwargs": {},
        "options": kept,
        "subtask_type": None,
        "immutable": True,
    }


def _task_id(value: object) -> str | None:
    return value if isinstance(value, str) and _TASK_ID.fullmatch(value) else None


def _clean(said: object) -> str:
    """Return what a stranger may have written as one short printable line."""
    return "".join(char if char.isprintable() else "?" for char in str(said)[:200])
