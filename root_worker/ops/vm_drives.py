"""Open the VM's drives for its VMM: the system disk, and the work disk where there is one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from banger.contracts.qemu import Drive
from root_worker.host import RootHost
from root_worker.ops import beneath
from root_worker.ops.grant_file import grant
from root_worker.ops.system_disk import system_disk_path


@contextmanager
def opened(host: RootHost, vm_id: str, uid: int) -> Iterator[tuple[Drive, ...]]:
    """Yield the drives in the guest's order. The work disk, made by the worker, becomes the uid's."""
    disks, work = [system_disk_path(host, vm_id)], host.paths.work_disk(vm_id)
    if os.path.lexists(work):
        grant(host, work, uid)
        disks.append(work)
    with ExitStack() as stack:
        fds = []
        for disk in disks:
            if disk.is_relative_to("/dev"):  # device-mapper's own name: a symlink that root made
                fds.append(os.open(disk, os.O_RDWR | os.O_CLOEXEC))
                stack.callback(os.close, fds[-1])
            else:
                file = beneath.regular_file(host.paths.state, disk, owners={uid}, flags=os.O_RDWR)
                fds.append(stack.enter_context(file))
        yield tuple(Drive(fd, stat.S_ISBLK(os.fstat(fd).st_mode)) for fd in fds)
