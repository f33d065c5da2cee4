"""From calls to Celery messages: flat chains of immutable signatures, by name, across both queues."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery import Celery, chain
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kombu.exceptions import OperationalError

from banger.advice import LOOK
from banger.contracts.broker import celery_settings
from banger.contracts.calls import StageCall
from banger.contracts.errors import UnavailableError
from banger.contracts.stages import Side
from banger.contracts.tickets import seal


def celery_app(name: str, redis_url: str) -> Celery:
    """Return a Celery app for the user that the URL names; it connects when it is first used."""
    app = Celery(name, set_as_current=False)
    app.conf.update(celery_settings(redis_url))
    return app


def dispatch(app: Celery, calls: Sequence[StageCall], key: Ed25519PrivateKey) -> None:
    """Send calls as one chain: each is published when the one before it has succeeded.

    What goes to root is sealed with ``key``, the host's own, and cannot be altered on its way.
    """
    chain(*(_signature(app, call, key) for call in calls), app=app).apply_async()


def send(app: Celery, task: str, queue: str, payload: dict[str, Any]) -> None:
    """Send one message that is no stage: reserve, begin or unwind. Its id begins like those of its job's.

    UnavailableError where Redis is away, or takes nothing more: its disk is full.
    """
    names = [payload[key] for key in ("vm", "job") if key in payload]
    try:
        app.send_task(
            task,
            args=[payload],
            queue=queue,
            task_id="-".join([*names, task.rpartition(".")[2]]),
            argsrepr=" ".join(f"{key}={payload[key]}" for key in ("vm", "job", "pipeline") if key in payload),
            kwargsrepr="",
            retry=False,
        )
    except OperationalError as error:
        raise UnavailableError("Redis took no message", details=str(error), resolution=LOOK) from error


def _signature(app: Celery, call: StageCall, key: Ed25519PrivateKey) -> Any:
    root = call.table_row.side is Side.ROOT
    return app.signature(
        call.task_name,
        args=[seal(call, key, time.time()) if root else call.model_dump(mode="json")],
        immutable=True,
        options={
            "queue": call.queue,
            "task_id": call.task_id,
            "argsrepr": f"vm={call.vm_id} job={call.job} stage={call.stage} generation={call.generation}",
            "kwargsrepr": "",
        },
    )
