"""The consumer of the unprivileged queues: Celery's, whose messages free their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

from banger.contracts.places import free_its_place


class WorkConsumer(Consumer):
    """Celery's consumer (``worker_consumer``), which Redis' restarts leave with all its places."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Return Celery's handler of messages, for messages that free their places."""
        handle: Callable[[Any], None] = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            free_its_place(message)
            handle(message)

        return on_task_received
