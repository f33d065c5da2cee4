"""Open the guest's serial log: two files in the VM's directory, which is the worker's, held by descriptor."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from banger.contracts.errors import PolicyError
from root_worker.host import RootHost
from root_worker.ops import beneath
from root_worker.ops.grant_file import Worker, worker_of

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
    worker = worker_of(host.policy)
    with beneath.directory(host.paths.state, log.parent) as parent:
        newer = _open(log.name, parent, os.O_APPEND, uid, worker)
        try:
            older = _open(f"{log.name}.1", parent, 0, uid, worker)
            try:
                yield SerialLog(newer, older)
            finally:
                os.close(older)
        finally:
            os.close(newer)


def _open(name: str, parent: int, flags: int, uid: int, worker: Worker) -> int:
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, mode=MODE, dir_fd=parent)
    except OSError as error:  # ELOOP: a symlink; ENXIO: a socket or FIFO; EISDIR
        raise PolicyError(f"{name} leads elsewhere: {error.strerror}") from error
    try:
        _check(name, os.fstat(fd), {uid, worker.uid})
        os.fchown(fd, uid, worker.gid)
        os.fchmod(fd, MODE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(name: str, found: os.stat_result, owners: set[int]) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise PolicyError(f"{name} is not a regular file of one name")
    # Root's own is what a start leaves that was killed right here: always empty.
    if found.st_uid not in owners and (found.st_uid, found.st_size) != (0, 0):
        raise PolicyError(f"{name} is owned by uid {found.st_uid}")
