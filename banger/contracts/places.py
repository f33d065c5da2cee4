"""A message that cannot be acknowledged takes no place among those that a worker is at.

Celery logs that Redis was away when it was to forget a message, and goes on. kombu counts the message as
worked at from then on, for as long as the consumer has its channel: restarts of Redis do not end that.
After as many of them as a worker has threads nothing was taken from its queue any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def free_its_place(message: Any) -> None:
    """Let a message of kombu's leave its place once it is done with, whether Redis is there or not."""
    message.ack_log_error = _freeing(message, message.ack)
    message.reject_log_error = _freeing(message, message.reject)


def _freeing(message: Any, act: Callable[..., None]) -> Callable[..., None]:
    def run(log: Any, errors: tuple[type[Exception], ...], **how: Any) -> None:
        try:
            act(**how)
        except errors as error:
            log.warning("Redis has message %s still, and hands it out again: %s", message.delivery_tag, error)
            qos = message.channel.qos
            super(type(qos), qos).ack(message.delivery_tag)  # what is left of it once Redis knows

    return run
