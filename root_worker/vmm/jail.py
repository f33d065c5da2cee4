"""The VMM's jail: a root-owned directory with its QMP socket, locked by whoever starts or ends the VMM."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from banger.contracts.names import HostPaths


class Jail(NamedTuple):
    """A locked jail. What inherits ``lock_fd`` keeps the lock as well."""

    path: Path
    lock_fd: int

    @property
    def socket(self) -> Path:
        """Where the VMM's QMP server listens."""
        return self.path_of("qmp.sock")

    def path_of(self, name: str) -> Path:
        """Return the path of a socket in the jail. Through the descriptor: the name of a socket is short."""
        return Path(f"/proc/self/fd/{self.lock_fd}", name)


@contextlib.contextmanager
def locked(paths: HostPaths, vm_id: str) -> Iterator[Jail]:
    """Make the VM's jail where it is absent, and hold its lock."""
    path = paths.jail(vm_id)
    while True:
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # The holder before us may have removed the jail: then this lock guards nothing.
                if os.path.samestat(os.fstat(fd), path.lstat()):
                    yield Jail(path, fd)
                    return
            finally:
                os.close(fd)


def listen_qmp(jail: Jail) -> socket.socket:
    """Return the listening QMP socket, for the VMM to inherit."""
    return listen(jail.socket)


def listen(path: Path) -> socket.socket:
    """Return a listening socket in a jail; only root may connect."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(1)
    return listener


def remove(jail: Jail) -> None:
    """Remove the jail and what is in it; forgives exactly its absence."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(jail.path)
