"""Open the guest's serial log, and what its VMM counts: files in the VM's directory, which is the worker's.

They are held by descriptor, by whoever writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from banger.contracts.errors import PolicyError
from root_worker.host import RootHost
from root_worker.ops import beneath

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
    older_half = log.with_name(f"{log.name}.1")
    with written_by(host, log, uid, os.O_APPEND) as newer, written_by(host, older_half, uid) as older:
        yield SerialLog(newer, older)


@contextmanager
def written_by(host: RootHost, path: Path, uid: int, flags: int = 0) -> Iterator[int]:
    """Make a file of the VM's directory likewise, where it is absent, and yield a descriptor of it."""
    owners = {uid, host.worker_uid, 0}  # root's own is what a start leaves that was killed right here
    flags |= os.O_RDWR | os.O_CREAT
    with beneath.regular_file(host.paths.state, path, owners, flags, MODE) as file:
        if (found := os.fstat(file)).st_uid == 0 and found.st_size:
            raise PolicyError(f"{path} is root's")
        beneath.give(file, uid, host.worker_gid, MODE)
        yield file
