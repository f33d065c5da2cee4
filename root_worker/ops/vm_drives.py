"""Open the VM's drives for its VMM: the system disk, and the work disk where there is one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from banger.contracts.qemu import Drive
from root_worker.host import RootHost
from root_worker.ops import beneath
from root_worker.ops.grant_file import grant
from root_worker.ops.system_disk import system_disk_path


@contextmanager
def opened(host: RootHost, vm_id: str, uid: int) -> Iterator[tuple[Drive, ...]]:
    """Yield the drives in the guest's order. The work disk, made by the worker, becomes the uid's."""
    with ExitStack() as stack:
        fds = [stack.enter_context(_system_disk(host, vm_id, uid))]
        work = host.paths.work_disk(vm_id)
        if os.path.lexists(work):
            grant(host, work, uid)
            fds.append(stack.enter_context(_file(host, work, uid)))
        yield tuple(Drive(fd, stat.S_ISBLK(os.fstat(fd).st_mode)) for fd in fds)


@contextmanager
def _system_disk(host: RootHost, vm_id: str, uid: int) -> Iterator[int]:
    path = system_disk_path(host, vm_id)
    if not path.is_relative_to("/dev"):
        with _file(host, path, uid) as fd:
            yield fd
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # device-mapper's own name: a symlink that root made
    try:
        yield fd
    finally:
        os.close(fd)


def _file(host: RootHost, path: Path, uid: int) -> AbstractContextManager[int]:
    return beneath.regular_file(host.paths.state, path, owners={uid}, flags=os.O_RDWR)
