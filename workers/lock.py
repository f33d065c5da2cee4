"""One worker a host: a process that serves the host's queue holds a lock for as long as it lives."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

log = logging.getLogger("banger.workers")


def hold_for_life(path: Path) -> None:
    """Wait for the lock of this file, which is made where it is absent. Only our death lets go of it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("another worker of this host holds %s; waiting for its end", path)
        fcntl.flock(fd, fcntl.LOCK_EX)
