"""The VMM's jail: a root-owned directory that holds its QMP socket and says which processes are the VM's.

Whoever starts or ends a VM's VMM holds the lock of its jail.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from banger.contracts.errors import StageFailedError
from banger.contracts.names import HostPaths
from root_worker.registry import Process

MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path holds 108, and a NUL ends it
SOCKET = "qmp.sock"
PIDS = "pids.json"


class Launched(BaseModel):
    """The processes of one start of a VM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int
    vmm: Process
    shim: Process


@contextlib.contextmanager
def locked(paths: HostPaths, vm_id: str) -> Iterator[Path]:
    """Make the VM's jail where it is absent, and hold its lock; yield its path."""
    jail = paths.jail(vm_id)
    paths.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    paths.jails.mkdir(mode=0o711, exist_ok=True)
    while True:
        jail.mkdir(mode=0o711, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(jail, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # The holder before us may have removed the jail: then this lock guards nothing.
                if os.path.samestat(os.fstat(fd), jail.lstat()):
                    yield jail
                    return
            finally:
                os.close(fd)


def listen_qmp(jail: Path, uid: int) -> socket.socket:
    """Return the listening QMP socket, connectable by ``uid`` and root from the moment it is there."""
    path = jail / SOCKET
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise StageFailedError(
            f"The path of the VMM's socket is longer than {MAX_SOCKET_PATH_BYTES} bytes",
            details=str(path),
            resolution="Choose a shorter run_dir in root's policy.",
        )
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    os.chown(path, uid, uid)
    listener.listen(1)
    return listener


def open_pids(jail: Path) -> int:
    """Return a descriptor of the emptied pid file, root's alone, for the shim to write."""
    return os.open(
        jail / PIDS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode=0o600
    )


def read_pids(jail: Path) -> Launched | None:
    """Return what the shim wrote; None when it wrote nothing (its VMM never ran) or there is no jail."""
    try:
        return Launched.model_validate_json((jail / PIDS).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def remove(jail: Path) -> None:
    """Remove the jail and what is in it; forgives exactly its absence."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(jail)
