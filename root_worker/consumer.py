"""The consumer of root's queue: no message, however it is made, takes the worker with it.

Celery sorts messages by a header before any strategy sees them, and what it stumbles over there ends the
worker. On its way out it puts the message back, to stumble over it again at every start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

from banger.contracts.places import free_its_place
from banger.contracts.queues import root_queue
from root_worker.door import Door
from root_worker.sieve import sieve

log = logging.getLogger("root_worker.consumer")


class RootConsumer(Consumer):
    """Celery's consumer (``worker_consumer``), which survives its messages."""

    connection_errors: tuple[type[Exception], ...]

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Return Celery's handler of messages; what makes it fail is refused."""
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            free_its_place(message)
            try:
                handle(message)
            except Exception as error:
                self.refuse(message, error)

        return on_task_received

    def refuse(self, message: Any, error: Exception | str) -> None:
        """Take a message off the queue for good, and tell; one of masses takes the others with it."""
        door: Door = self.app.conf.banger_door
        flood = door.refuse(error, message.headers)
        message.reject_log_error(log, self.connection_errors)
        if flood:
            backend: Any = self.app.backend
            thrown_out = sieve(backend.client, root_queue(door.policy.host), door)
            log.warning("threw %d forged messages out of the queue", thrown_out)

    # What Celery does with these is to log all of what a stranger wrote, or to store a result for it.

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Refuse what is no task message."""
        self.refuse(message, "no message of a task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse a task that root does not have, or a message that makes no request."""
        self.refuse(message, f"no request that root can be asked: {exc}")

    on_invalid_task = on_unknown_task

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Refuse a body that is not JSON."""
        self.refuse(message, exc)
