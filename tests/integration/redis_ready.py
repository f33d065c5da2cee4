"""Waiting for a redis-server of a test's own."""

from __future__ import annotations

import socket
import time

from banger.connection import connect
from banger.contracts.errors import UnavailableError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_redis(url: str, deadline_s: float = 10) -> None:
    deadline = time.monotonic() + deadline_s
    while True:
        client = connect(url)
        try:
            client.ping()
        except UnavailableError:
            assert time.monotonic() < deadline, "redis-server did not come up"
            time.sleep(0.02)
        else:
            return
        finally:
            client.close()
