"""What root's consumer does with messages that Celery itself cannot handle."""

from __future__ import annotations

from typing import Any

import pytest
from celery.worker.consumer import Consumer

from root_worker.consumer import RootConsumer


class Message:
    acknowledged = False

    def ack_log_error(self, _log: object, _errors: object) -> None:
        self.acknowledged = True


@pytest.fixture
def consumer() -> RootConsumer:
    """Return a consumer that is not connected, and knows one task."""
    consumer = object.__new__(RootConsumer)
    consumer.connection_errors = ()
    return consumer


def handler(consumer: RootConsumer, monkeypatch: pytest.MonkeyPatch, celerys: Any) -> Any:
    monkeypatch.setattr(Consumer, "create_task_handler", lambda _self: celerys)
    return consumer.create_task_handler()


def test_a_message_that_celery_stumbles_over_is_refused(
    consumer: RootConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(_message: Message) -> None:
        raise TypeError("unhashable type: 'list'")  # as for a task header that is a list

    message = Message()
    handler(consumer, monkeypatch, stumble)(message)
    assert message.acknowledged


def test_any_other_message_is_celerys_affair(consumer: RootConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[Message] = []
    message = Message()
    handler(consumer, monkeypatch, handled.append)(message)
    assert handled == [message]
    assert not message.acknowledged
