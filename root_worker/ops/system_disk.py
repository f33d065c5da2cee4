"""The VM's system disk, whichever backend it was made with: chosen once, remembered in root's registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from banger.contracts.errors import StageFailedError
from root_worker.host import RootHost
from root_worker.ops import beneath, dm_snapshot, reflink, sparse_copy
from root_worker.ops.clone import clone_once
from root_worker.ops.grant_file import give, worker_of
from root_worker.ops.process import alive
from root_worker.registry import Entry

Backend = Literal["reflink", "copy", "dm-snapshot"]

_ROOT_ONLY = frozenset({0})


def system_disk_path(host: RootHost, vm_id: str) -> Path:
    """Return what the VMM opens: the snapshot's device node, or the overlay file."""
    return dm_snapshot.path(vm_id) if _backend_of(host, vm_id) == "dm-snapshot" else host.paths.overlay(vm_id)


@contextmanager
def opened(host: RootHost, vm_id: str, uid: int) -> Iterator[int]:
    """Yield a descriptor of the attached system disk, which ``uid`` can open again by /proc/self/fd."""
    if _backend_of(host, vm_id) == "dm-snapshot":
        fd = os.open(dm_snapshot.path(vm_id), os.O_PATH | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    else:
        with beneath.regular_file(host.paths.state, host.paths.overlay(vm_id), owners={uid}) as fd:
            yield fd


def attach(host: RootHost, vm_id: str, image: str, uid: int) -> Backend:
    """Make the system disk of base and overlay, once, and return the backend that it has from now on.

    StageFailedError when the base or the overlay is not there, or there is no room; nothing is left then.
    """
    with beneath.regular_file(host.paths.state, host.paths.rootfs(image), owners=_ROOT_ONLY) as base:
        backend = _backend_of(host, vm_id)
        if backend is None:
            backend = _choose(host, vm_id, base)
            host.registry.update(vm_id, disk_backend=backend)
        if backend == "reflink":
            clone_once(host, vm_id, base, uid, reflink.fill)
        elif backend == "copy":
            clone_once(host, vm_id, base, uid, sparse_copy.fill)
        else:
            _attach_snapshot(host, vm_id, base, uid)
    return backend


def detach(host: RootHost, vm_id: str) -> None:
    """Undo ``attach`` from the VM's id; the overlay, which holds the guest's changes, stays.

    Without a memory of the backend the snapshot device is looked for all the same.
    """
    if _backend_of(host, vm_id) in (None, "dm-snapshot") and dm_snapshot.works():
        dm_snapshot.detach(vm_id, _lock(host))


def require_idle(entry: Entry) -> None:
    """Raise StageFailedError while the VM's VMM lives: its disk is not ours to touch then."""
    if entry.vmm and alive(entry.vmm):
        raise StageFailedError(
            f"VM {entry.vm_id} still runs (process {entry.vmm.pid})", resolution="Stop or kill it first."
        )


def _backend_of(host: RootHost, vm_id: str) -> Backend | None:
    entry = host.registry.get(vm_id)
    return entry.disk_backend if entry else None


def _choose(host: RootHost, vm_id: str, base: int) -> Backend:
    if host.policy.disk_backend != "auto":
        return host.policy.disk_backend
    if dm_snapshot.works():
        return "dm-snapshot"
    with beneath.directory(host.paths.state, host.paths.vm(vm_id)) as vm_dir:
        return "reflink" if reflink.works(base, vm_dir) else "copy"


def _attach_snapshot(host: RootHost, vm_id: str, base: int, uid: int) -> None:
    worker = worker_of(host.policy)
    overlay = host.paths.overlay(vm_id)
    owners = {worker.uid, uid}
    with beneath.regular_file(host.paths.state, overlay, owners=owners, flags=os.O_RDWR) as fd:
        give(fd, uid, worker)
        dm_snapshot.attach(vm_id, base, fd, uid, _lock(host))


def _lock(host: RootHost) -> Path:
    return host.paths.registry / ".disks.lock"
