"""The line to the farm's Redis. What can go wrong with it is one error, which says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import redis
import redis.client

from banger.advice import RESTART, START
from banger.contracts.errors import UnavailableError
from banger.contracts.redis_url import check_redis_url

_FULL = ("MISCONF", "OOM")  # it refuses to write
_IN_A_PIPELINE = " of pipeline caused error: "  # after which redis-py says what Redis said


class FarmRedis(redis.Redis):
    """A Redis client whose failures are UnavailableError: one line that says what to do."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command."""
        with _told():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> FarmPipeline:
        """Return several commands that are sent at once; they fail as one does."""
        return FarmPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class FarmPipeline(redis.client.Pipeline):
    """Commands that go together, and fail as a FarmRedis' do."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send them all, and return their answers."""
        with _told():
            return super().execute(raise_on_error)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise what goes wrong in the block as an error of ours."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise UnavailableError(
            "Redis refused the password",
            details=str(error),
            resolution="Check BANGER_REDIS_URL, or the farm's own file with `banger config show`.",
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise UnavailableError(
            "Redis does not allow this user to do that",
            details=str(error),
            resolution="`banger redis acl` shows who may do what, and what Redis should have been told.",
        ) from error
    except redis.ResponseError as error:
        if not str(error).rpartition(_IN_A_PIPELINE)[2].startswith(_FULL):
            raise
        raise UnavailableError(
            "Redis takes nothing more: its disk or its memory is full",
            details=str(error),
            resolution="Free space where its data is; it goes on by itself then.",
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise UnavailableError(
            "Redis cannot be reached",
            details=str(error),
            resolution=RESTART if "reading" in str(error) else START,
        ) from error


def is_away(error: UnavailableError) -> bool:
    """Tell whether Redis was not there to be asked, which may pass; that it refused does not."""
    cause = error.__cause__
    lost = isinstance(cause, redis.ConnectionError | redis.TimeoutError)
    return lost and not isinstance(cause, redis.AuthenticationError)


def connect(url: str, *, answer_s: float = 10.0) -> FarmRedis:
    """Return a client for the URL, which decodes to str.

    It fails within 2 s where nobody listens, and within ``answer_s`` seconds where nobody answers.
    InvalidInputError where the URL is unsafe (``check_redis_url``).
    """
    check_redis_url(url)
    try:
        client = FarmRedis.from_url(
            url, decode_responses=True, socket_connect_timeout=2, socket_timeout=answer_s, retry=None
        )
    except ValueError as error:
        raise UnavailableError(
            "the Redis URL is not valid",
            details=str(error),
            resolution="Write redis://:PASSWORD@HOST:PORT/0.",
        ) from None
    return cast("FarmRedis", client)
