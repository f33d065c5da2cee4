"""A range of uids for the VMs of one farm of the tests, which no other farm of the machine has meanwhile."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def own_uids() -> Iterator[int]:
    """Yield the first of a thousand uids. Two farms with the same would kill each other's VMs.

    What is taken is told by a name of a socket, which the kernel forgets with the process.
    """
    with socket.socket(socket.AF_UNIX) as claim:
        while True:
            first = 400_000 + secrets.randbelow(1000) * 1000
            with contextlib.suppress(OSError):
                claim.bind(f"\0banger-test-uids-{first}")
                break
        yield first
