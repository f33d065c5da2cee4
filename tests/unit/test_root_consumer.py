"""What root's consumer does with messages that Celery itself cannot handle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery.worker.consumer import Consumer

from root_worker.audit import Audit
from root_worker.consumer import RootConsumer
from root_worker.door import Door


class Message:
    headers = ["no", "mapping"]
    rejected = False

    def ack(self) -> None:
        raise AssertionError("nothing was done")

    def reject(self) -> None:
        self.rejected = True


class App:
    """Has the door, whose audit is all that is asked for."""

    def __init__(self, directory: Path) -> None:
        self.conf = self
        self.banger_door = Door(None, tuple, None, Audit(directory))  # type: ignore[arg-type]


@pytest.fixture
def consumer(tmp_path: Path) -> RootConsumer:
    """Return a consumer that is not connected, and knows one task."""
    consumer = object.__new__(RootConsumer)
    consumer.app = App(tmp_path / "audit")
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
    assert message.rejected
    assert consumer.app.banger_door.audit.refusals == 1


def test_any_other_message_is_celerys_affair(consumer: RootConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[Message] = []
    message = Message()
    handler(consumer, monkeypatch, handled.append)(message)
    assert handled == [message]
    assert not message.rejected
