"""Open the guest's serial log: two files in the VM's directory, which is the worker's, held by descriptor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from banger.contracts.errors import PolicyError
from root_worker.host import RootHost
from root_worker.ops import beneath
from root_worker.ops.grant_file import give, worker_of

MODE = 0o640
_TAIL_BYTES = 4000


class SerialLog(NamedTuple):
    """Descriptors of the log's newer and older half. Both can be read; the newer appends."""

    newer: int
    older: int

    def tail(self, start: int) -> str:
        """Return the end of what was written after the byte ``start`` of the newer half."""
        size = os.fstat(self.newer).st_size
        start = max(0, size - _TAIL_BYTES, start if start <= size else 0)
        return os.pread(self.newer, size - start, start).decode(errors="replace").strip()


@contextmanager
def opened(host: RootHost, vm_id: str, uid: int) -> Iterator[SerialLog]:
    """Make both files where they are absent, the uid's and readable by the worker's group, and yield them.

    PolicyError when either is anything but a regular file of one name that is the uid's or the worker's.
    """
    log = host.paths.serial_log(vm_id)
    with (
        _half(host, log, os.O_APPEND, uid) as newer,
        _half(host, log.with_name(f"{log.name}.1"), 0, uid) as older,
    ):
        yield SerialLog(newer, older)


@contextmanager
def _half(host: RootHost, path: Path, flags: int, uid: int) -> Iterator[int]:
    worker = worker_of(host.policy)
    flags |= os.O_RDWR | os.O_CREAT
    with beneath.regular_file(host.paths.state, path, owners={uid, worker.uid, 0}, flags=flags) as fd:
        # Root's own is what we have just made, or what a start has left that was killed right here.
        if (found := os.fstat(fd)).st_uid == 0 and found.st_size:
            raise PolicyError(f"{path} is root's")
        give(fd, uid, worker.gid, MODE)
        yield fd
