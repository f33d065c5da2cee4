"""A message that Redis could not be told of takes no place among those at work."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.transport.virtual import QoS

from banger.contracts.places import free_its_place

LOG = logging.getLogger("test")


class RedisAway(QoS):
    """As kombu's for Redis, which tells Redis first."""

    def ack(self, delivery_tag: str) -> None:
        raise ConnectionError("Redis is away")


def taken(places: type[QoS]) -> tuple[Any, QoS]:
    """Return a message that was taken from a queue by a consumer of one place."""
    qos = places(SimpleNamespace(do_restore=False), prefetch_count=1)
    message = SimpleNamespace(delivery_tag="tag", channel=SimpleNamespace(qos=qos))
    message.ack = message.reject = lambda **_: qos.ack("tag")
    qos.append(message, "tag")
    free_its_place(message)
    assert not qos.can_consume()
    return message, qos


@pytest.mark.parametrize("what", ["ack_log_error", "reject_log_error"])
@pytest.mark.parametrize("places", [QoS, RedisAway])
def test_a_message_that_is_done_with_leaves_its_place(places: type[QoS], what: str) -> None:
    message, qos = taken(places)
    getattr(message, what)(LOG, (ConnectionError,))
    assert qos.can_consume()


def test_another_error_is_told() -> None:
    message, qos = taken(RedisAway)
    with pytest.raises(ConnectionError):
        message.ack_log_error(LOG, (TimeoutError,))
    assert not qos.can_consume()
