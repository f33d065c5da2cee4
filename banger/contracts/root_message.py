"""What becomes of a message to root: made anew of its ticket's claims, and of its chain's tail. Pure.

No errbacks, callbacks, eta, expiry, time limits or stamps come through: who can write to the queue can
write them, and they would run code, or park or kill a step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from banger.contracts.errors import PolicyError
from banger.contracts.queues import root_queue, work_queue
from banger.contracts.tickets import Claims

_TASK_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}-u?[0-9]{2}-[a-z_]+")


def ticket_of(content_type: str, payload: Any) -> Any:
    """Return what stands in a message for its one ticket; PolicyError where it carries anything else."""
    if content_type != "application/json":
        raise PolicyError(f"content type {content_type!r}")
    try:
        args, kwargs, _embed = payload
    except (TypeError, ValueError):
        raise PolicyError("the body is not one of Celery's second protocol") from None
    if not isinstance(args, list) or len(args) != 1 or kwargs:
        raise PolicyError("a root message carries one ticket and nothing else")
    return args[0]


def headers_of(claims: Claims, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's headers. Of what it ``said`` itself only what links tasks for whoever watches."""
    call = claims.call
    return {
        "lang": "py",
        "task": claims.task,
        "id": claims.task_id,
        "root_id": _task_id(said.get("root_id")) or claims.task_id,
        "parent_id": _task_id(said.get("parent_id")),
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": f"vm={call.vm_id} job={call.job} stage={call.stage} generation={call.generation}",
        "kwargsrepr": "",
        "origin": "ticket",
        "ignore_result": True,
    }


def body_of(claims: Claims, embed: Mapping[str, Any]) -> list[Any]:
    """Return a message's body. PolicyError when its chain leads anywhere but to this host's two queues."""
    tail = [_link(link, claims.call.host) for link in (embed.get("chain") or [])]
    kept = {"callbacks": None, "errbacks": None, "chord": None, "chain": tail or None}
    return [[claims.model_dump(mode="json")], {}, kept]


def printable(said: object) -> str:
    """Return what a stranger may have written as one short printable line."""
    return "".join(char if char.isprintable() else "?" for char in str(said)[:200])


def _link(link: Any, host: str) -> dict[str, Any]:
    """Return one link of a chain's tail, made anew of what is needed to publish it; root never runs it."""
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
