"""Celery's line to Redis, which survives what is no message: every side's, however its URL begins.

Kombu reads what it takes from a queue as JSON, and lets the worker end where it is not. Whoever can write
to a queue could so keep its worker from working.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

log = logging.getLogger("banger.transport")


class Channel(redis.Channel):
    """Kombu's channel; what it cannot make a message of is gone from the queue, and so be it."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # not in its stubs
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            log.warning("threw away what is no message: %.200r", error)
            return True


class Transport(redis.Transport):
    """Kombu's transport with that channel."""

    Channel = Channel


def take_the_place_of_kombus() -> None:
    """Let ``redis://``, ``rediss://`` and ``redis+socket://`` mean this transport in this process."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:{Transport.__name__}"))
