"""A lock between threads and processes of root: a file that one of them holds at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold the lock of this file, which is made where it is absent.

    A tool that is given the descriptor holds it as well: should we be killed, nobody comes in before it ends.
    """
    fd = take(path)
    try:
        yield fd
    finally:
        os.close(fd)


def take(path: Path) -> int:
    """Wait for the lock of this file and return the descriptor that holds it; whoever dies lets go."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd
