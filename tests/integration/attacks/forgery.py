"""Messages for root's queue as somebody with a Redis client would write them, field by field."""

from __future__ import annotations

import base64
import json
import pickle
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from banger.contracts import tickets
from banger.contracts.calls import StageCall
from banger.contracts.tickets import seal

Message = dict[str, Any]

# The host's own key, where a test is about tickets that its worker has sealed; any other seals nothing.
key = Ed25519PrivateKey.generate()


def ticket(call: StageCall, *, age_s: float = 0.0, **changes: Any) -> str:
    """Return the call's ticket, perhaps an older one, or one of another call."""
    return seal(call.model_copy(update=changes), key, time.time() - age_s)


def message(
    call: StageCall,
    args: list[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    *,
    embed: dict[str, Any] | None = None,
    task: str | None = None,
    task_id: str | None = None,
    **headers: Any,
) -> Message:
    """Return the right message for a call where nothing else is said: protocol 2, JSON, one ticket."""
    body = [[ticket(call)] if args is None else args, kwargs or {}, embed or {}]
    return sealed(
        json.dumps(body).encode(),
        {
            "lang": "py",
            "task": task or call.task_name,
            "id": task_id or call.task_id,
            "root_id": task_id or call.task_id,
            "parent_id": None,
            "group": None,
        }
        | headers,
    )


def tampered(call: StageCall, **request: Any) -> str:
    """Return a ticket whose request no honest side could have written, signed all the same."""
    claims = json.loads(base64.b64decode(ticket(call).split(".")[0]))
    claims["call"]["request"] |= request
    return signed(json.dumps(claims).encode())


def signed(message: bytes) -> str:
    """Return what the host's key says of any bytes, as a ticket."""
    return ".".join(
        base64.b64encode(part).decode() for part in (message, key.sign(tickets._CONTEXT + message))
    )


def sealed(body: bytes, headers: dict[str, Any], content_type: str = "application/json") -> Message:
    """Return a message as kombu's Redis transport keeps it."""
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": content_type,
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": {
            "correlation_id": headers.get("id", "0"),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "root"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": f"forged-{time.monotonic_ns()}",
        },
    }


def signature(task: str, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return a task signature as messages carry it."""
    return {
        "task": task,
        "args": list(args),
        "kwargs": kwargs,
        "options": {},
        "subtask_type": None,
        "immutable": True,
    }


def claims_of(call: StageCall) -> dict[str, Any]:
    """Return what root's tasks are given once a ticket was opened: a stranger can write that too."""
    return dict(json.loads(base64.b64decode(ticket(call).split(".")[0])))


def starmap(call: StageCall, builtin: str = "celery.starmap") -> dict[str, Any]:
    """Return the signature of a built-in task that would run the call's task in its own process."""
    payload = claims_of(call)
    it = [[payload]] if builtin == "celery.starmap" else [payload]
    return signature(builtin, task=signature(call.task_name), it=it)


def of_protocol_1(call: StageCall) -> Message:
    """Return a message of Celery's first protocol, whose body says all."""
    body = {"task": call.task_name, "id": "forged", "args": [claims_of(call)], "kwargs": {}}
    return sealed(json.dumps(body).encode(), {})


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def pickled(call: StageCall, path: Path) -> Message:
    """Return a message whose body would make a file."""
    right = message(call)
    return sealed(
        pickle.dumps([[Touch(path)], {}, {}]), right["headers"], content_type="application/x-python-serialize"
    )
