"""Events for Flower go out by the timer, also through the dispatcher of a later connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from banger.contracts.event_batches import BATCH_S, batch_events


class FakeDispatcher:
    def __init__(self, on_send_buffered: Callable[[], None]) -> None:
        self.on_send_buffered = on_send_buffered
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1


class FakeConsumer:
    """Celery's consumer as far as events go; it is its own timer."""

    def __init__(self) -> None:
        self.timer = self
        self.repeated: list[tuple[float, Callable[[], Any]]] = []
        self.connect()

    def connect(self) -> None:
        self.event_dispatcher = FakeDispatcher(lambda: self.on_send_event_buffered())

    def on_send_event_buffered(self) -> None:
        self.event_dispatcher.flush()

    def call_repeatedly(self, every_s: float, call: Callable[[], Any]) -> None:
        self.repeated.append((every_s, call))


def test_an_event_waits_for_the_timer():
    consumer = FakeConsumer()
    batch_events(consumer, signal="worker_ready")
    consumer.event_dispatcher.on_send_buffered()
    assert consumer.event_dispatcher.flushed == 0
    ((every_s, call),) = consumer.repeated
    call()
    assert (every_s, consumer.event_dispatcher.flushed) == (BATCH_S, 1)


def test_a_new_connection_keeps_the_batches():
    consumer = FakeConsumer()
    batch_events(consumer)
    consumer.connect()
    consumer.event_dispatcher.on_send_buffered()
    assert consumer.event_dispatcher.flushed == 0
    consumer.repeated[0][1]()
    assert consumer.event_dispatcher.flushed == 1
