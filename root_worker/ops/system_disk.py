"""The VM's system disk: the worker's clone of the base as it is, or a snapshot device over base and overlay.

Which of them, the overlay file itself says at the first attach, and root's registry from then on. A clone
holds data and is handed to the VM. A file of nothing but a hole becomes the store of a snapshot, and root's:
the kernel parses that store, so what the worker or a VMM may have written is never taken for one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from banger.contracts.errors import PolicyError
from banger.contracts.registry import Entry
from banger.contracts.vmm_limits import MIB
from root_worker.host import RootHost
from root_worker.ops import beneath, dm_snapshot

Backend = Literal["file", "dm-snapshot"]


@contextmanager
def opened(host: RootHost, vm_id: str, uid: int, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Yield a descriptor of the attached system disk, which ``uid`` can open again by /proc/self/fd."""
    if _backend_of(host, vm_id) == "dm-snapshot":
        fd = os.open(dm_snapshot.path(vm_id), flags | os.O_CLOEXEC)  # a symlink that root has made
        try:
            yield fd
        finally:
            os.close(fd)
    else:
        with beneath.regular_file(host.paths.state, host.paths.overlay(vm_id), {uid}, flags) as fd:
            yield fd


def attach(host: RootHost, vm_id: str, image: str, uid: int, room_mib: int = 0) -> Backend:
    """Make the VM's system disk its own, and return the backend that it has from now on.

    A snapshot's overlay grows to ``room_mib``. StageFailedError when the overlay, or the base of a snapshot,
    is not there, or the base is not what it was; PolicyError when either is not what it has to be.
    """
    overlay, known = host.paths.overlay(vm_id), _backend_of(host, vm_id)
    theirs = {host.worker_uid, uid}
    owners = {"dm-snapshot": {0}, "file": theirs, None: theirs | {0}}[known]
    with beneath.regular_file(host.paths.state, overlay, owners, os.O_RDWR) as store:
        backend = known or ("file" if _has_data(store) else "dm-snapshot")
        owner = uid if backend == "file" else 0
        beneath.give(store, owner, owner, 0o600)
        if not known:
            if backend == "dm-snapshot" and (not beneath.is_ours_alone(store) or _has_data(store)):
                raise PolicyError(f"{overlay} is no new snapshot store: somebody has it open, or wrote to it")
            host.registry.update(vm_id, disk_backend=backend)
        if backend == "dm-snapshot":
            with beneath.regular_file(host.paths.state, host.paths.rootfs(image), {0}) as base:
                found = os.fstat(base)
                host.registry.rest(vm_id, image, f"{found.st_size} {found.st_mtime_ns}")
                if os.fstat(store).st_size < room_mib * MIB:
                    os.ftruncate(store, room_mib * MIB)
                dm_snapshot.attach(vm_id, base, store, uid, _lock(host))
    return backend


def detach(host: RootHost, entry: Entry) -> None:
    """Undo ``attach``; the overlay, which holds the guest's changes, stays.

    Of a VM that the registry had forgotten, the kernel alone tells that it had one.
    """
    if entry.disk_backend != "file":
        dm_snapshot.detach(entry.vm_id, _lock(host))


def _backend_of(host: RootHost, vm_id: str) -> Backend | None:
    entry = host.registry.get(vm_id)
    return entry.disk_backend if entry else None


def _has_data(file: int) -> bool:
    try:
        os.lseek(file, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True


def _lock(host: RootHost) -> Path:
    return host.paths.registry / ".disks.lock"
