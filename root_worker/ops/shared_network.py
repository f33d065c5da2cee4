"""The bridge and the tables that all guests share: there while one guest is, gone with the last.

Whoever makes or removes a tap holds the lock together with others; only who clears the network away holds it
alone, so that no tap is made on a bridge that is just being removed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2 import IPRoute

from root_worker.host import RootHost
from root_worker.ops.bridge import remove_bridge
from root_worker.ops.guest_filter import remove_base_rules
from root_worker.ops.tap import any_tap


@contextmanager
def in_use(host: RootHost) -> Iterator[None]:
    """Keep the shared network from being cleared away meanwhile."""
    with _locked(host, fcntl.LOCK_SH):
        yield


def clear_when_unused(host: RootHost, ip: IPRoute) -> None:
    """Remove bridge and tables when no tap is left; there or not."""
    if any_tap(ip):
        return
    with _locked(host, fcntl.LOCK_EX):
        if not any_tap(ip):  # one may have come while we waited
            remove_bridge(ip)
            remove_base_rules()


@contextmanager
def _locked(host: RootHost, how: int) -> Iterator[None]:
    fd = os.open(host.paths.registry / ".network.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)
