"""The loopback ports of a farm: the ones that are configured, or free ones, picked once and kept."""

from __future__ import annotations

import errno
import socket
import time
from typing import NamedTuple

from banger.contracts.errors import ConflictError, InvalidInputError
from banger.settings import Settings

RELEASE_S = 3.0  # a Redis whose supervisor was killed may still be writing its last
POLL_S = 0.05


class Ports(NamedTuple):
    """Where the farm's Redis and Flower listen on 127.0.0.1."""

    redis: int
    flower: int


def choose_ports(settings: Settings, kept: Ports | None) -> Ports:
    """Return the ports to use: the configured ones, else those kept from before, else free ones.

    ConflictError where another program has a configured port, InvalidInputError where both are one.
    """
    if settings.redis_port and settings.redis_port == settings.flower_port:
        raise InvalidInputError(
            f"redis_port and flower_port are both {settings.redis_port}",
            resolution="Set one of them to another.",
        )
    kept = kept or Ports(0, 0)
    redis = settings.redis_port or kept.redis
    if settings.redis_url is None:  # else nothing of ours listens there
        redis = _choose("redis_port", settings.redis_port, kept.redis)
    flower = _choose("flower_port", settings.flower_port, kept.flower if kept.flower != redis else 0)
    return Ports(redis, flower)


def _choose(setting: str, configured: int, kept: int) -> int:
    if configured and not _is_free(configured):
        raise ConflictError(
            f"port {configured} of 127.0.0.1 is taken by another program",
            details=f"it is this farm's {setting}",
            resolution=f"End that program, or set {setting} to another port, or to 0 for any free one.",
        )
    if configured or (kept and _is_free(kept)):
        return configured or kept
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    """Tell whether nobody listens on the port, now or in a moment."""
    deadline = time.monotonic() + RELEASE_S
    while True:
        with socket.socket() as probe:
            # As Redis and Flower do it: connections that were closed a minute ago do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
