"""The consumer of root's queue: no message, however it is made, takes the worker with it.

Celery sorts messages by a header before any strategy sees them, and what it stumbles over there ends the
worker. On its way out it puts the message back, to stumble over it again at every start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

log = logging.getLogger("root_worker.consumer")


class RootConsumer(Consumer):
    """Celery's consumer (``worker_consumer``), which survives its messages."""

    connection_errors: tuple[type[Exception], ...]

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Return Celery's handler of messages; what makes it fail is refused."""
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            try:
                handle(message)
            except Exception as error:
                log.warning("refused a message that cannot be sorted: %r", error)
                message.ack_log_error(log, self.connection_errors)

        return on_task_received
