"""The overlay file becomes a clone of the base, once: what backends without a snapshot device do.

The clone grows under a scratch name and takes the overlay's name when it is whole, on disk, and the VM's.
So an overlay that the VM's uid owns is a clone, whatever was killed in between, and is kept as it is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from banger.contracts.errors import StageFailedError
from root_worker.host import RootHost
from root_worker.ops import beneath
from root_worker.ops.grant_file import give, worker_of

_SCRATCH = "overlay.img.new"

Fill = Callable[[int, int], None]  # from a base's descriptor into an empty file's


def clone_once(host: RootHost, vm_id: str, base: int, uid: int, fill: Fill) -> None:
    """Make the VM's overlay a clone of ``base`` (a descriptor) by ``fill``, unless it is one.

    StageFailedError when the disk is full, or the overlay file is not there; nothing is left behind then.
    """
    worker = worker_of(host.policy)
    overlay = host.paths.overlay(vm_id)
    with beneath.regular_file(host.paths.state, overlay, owners={worker.uid, uid}) as found:
        if os.fstat(found).st_uid == uid:
            return
    with beneath.directory(host.paths.state, overlay.parent) as vm_dir, _scratch(vm_dir, overlay) as clone:
        fill(base, clone)
        give(clone, uid, worker)
        os.fsync(clone)
        os.rename(_SCRATCH, overlay.name, src_dir_fd=vm_dir, dst_dir_fd=vm_dir)
        _sync(vm_dir)


@contextmanager
def _scratch(vm_dir: int, overlay: Path) -> Iterator[int]:
    _remove(vm_dir)  # of a run that was killed
    fd = os.open(_SCRATCH, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=vm_dir)
    try:
        yield fd
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StageFailedError(
            f"The disk is full: {overlay} could not be made",
            details=str(error),
            resolution="Free space where the state directory is: `banger prune`, `banger image list`.",
        ) from error
    finally:
        _remove(vm_dir)  # gone already where it took the overlay's name
        os.close(fd)


def _remove(vm_dir: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(_SCRATCH, dir_fd=vm_dir)


def _sync(vm_dir: int) -> None:
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=vm_dir)  # O_PATH cannot be synced
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
