"""What a worker tells Flower goes out in batches, from a timer.

Celery publishes each of a task's three events as soon as its loop turns, in the middle of receiving the task
and of sending the next: with Flower's own work for each, a millisecond of every stage on two cores.
"""

from __future__ import annotations

from typing import Any

BATCH_S = 0.5  # Flower shows this much later; a stage's own events, on which users wait, are not among these


def batch_events(sender: Any, **_: Any) -> None:
    """Make a worker's consumer do so; for Celery's ``worker_ready`` signal, whose sender it is.

    A full batch (24) goes out at once, as ever. A lost connection changes nothing: the dispatcher that is
    made anew asks the consumer for the same hook.
    """
    consumer = sender
    consumer.on_send_event_buffered = _wait_for_the_timer
    consumer.event_dispatcher.on_send_buffered = _wait_for_the_timer
    consumer.timer.call_repeatedly(BATCH_S, lambda: consumer.event_dispatcher.flush())


def _wait_for_the_timer() -> None:
    return
