"""Open the VM's drives for its VMM: the system disk, and the work disk where there is one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from banger.contracts.qemu import Drive
from root_worker.host import RootHost
from root_worker.ops import beneath, system_disk


@contextmanager
def opened(host: RootHost, vm_id: str, uid: int) -> Iterator[tuple[Drive, ...]]:
    """Yield the drives in the guest's order. The work disk, made by the worker, becomes the uid's.

    The worker's group may still write to it: a stopped VM's work disk can be grown.
    """
    with ExitStack() as stack:
        fds = [stack.enter_context(system_disk.opened(host, vm_id, uid, os.O_RDWR))]
        work = host.paths.work_disk(vm_id)
        if os.path.lexists(work):
            owners = {uid, host.worker_uid}
            fds.append(stack.enter_context(beneath.regular_file(host.paths.state, work, owners, os.O_RDWR)))
            beneath.give(fds[-1], uid, host.worker_gid, 0o660)
        yield tuple(Drive(fd, stat.S_ISBLK(os.fstat(fd).st_mode)) for fd in fds)
