"""What is said of a Redis that takes nothing more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from banger.connection import FarmRedis, is_away
from banger.contracts.errors import UnavailableError
from banger.dispatch import send

FULL = "MISCONF Errors writing to the AOF file: No space left on device"


def test_a_redis_whose_disk_is_full_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise redis.ResponseError(FULL)

    monkeypatch.setattr(redis.Redis, "execute_command", full)
    with pytest.raises(UnavailableError, match="its disk or its memory is full"):
        FarmRedis().execute_command("SET", "key", "value")


@pytest.mark.parametrize(
    ("error", "brief"),
    [
        (redis.ResponseError(f"Command # 1 (SET a b) of pipeline caused error: {FULL}"), "is full"),
        (redis.ConnectionError("Connection refused."), "cannot be reached"),
    ],
)
def test_several_commands_at_once_fail_as_one_does(
    error: redis.RedisError, brief: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(redis.client.Pipeline, "execute", fails)
    with pytest.raises(UnavailableError, match=brief) as caught:
        FarmRedis().pipeline(transaction=False).get("a").execute()
    assert is_away(caught.value) == isinstance(error, redis.ConnectionError)


def test_a_message_that_redis_does_not_take_is_one_error_of_ours() -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OperationalError(FULL)

    app = cast("Celery", SimpleNamespace(send_task=full))
    with pytest.raises(UnavailableError, match="Redis took no message"):
        send(app, "banger.work.begin", "banger.work.here", {"vm": "0123456789ab"})
