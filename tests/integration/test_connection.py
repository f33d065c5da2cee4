"""A Redis that is there and says nothing."""

from __future__ import annotations

import socket
import time

import pytest

from banger.connection import connect
from banger.contracts.errors import UnavailableError

pytestmark = pytest.mark.integration


def test_a_redis_that_accepts_and_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"redis://:one-that-is-right@127.0.0.1:{silent.getsockname()[1]}/0", answer_s=0.2)
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="cannot be reached") as caught:
            client.ping()
        assert time.monotonic() - started < 2
        assert "hangs" in caught.value.resolution, (
            "who is told to start what runs already is helped by nothing"
        )
        client.close()
