"""The store on disk: build beside it, publish by one rename, sweep what a killed build left.

One lock covers building and deleting. Who holds it may remove every scratch directory: their
owners are dead.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

from banger.contracts.errors import ConflictError, ToolFailedError
from banger.contracts.names import HostPaths

_SCRATCH = ".scratch-"
_SWEEP_DEADLINE_S = 10.0


@contextmanager
def locked(paths: HostPaths, *, wait_s: float, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold the store's lock; ConflictError when another build has it for longer than ``wait_s`` seconds."""
    for directory in (paths.state, paths.images, paths.kernels):
        directory.mkdir(parents=True, exist_ok=True)
        # The path to the images is open to all, whatever the umask: VMMs run under uids of their own.
        directory.chmod(0o711 if directory == paths.state else 0o755)
    lock = FileLock(paths.images / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("Waiting for another image build")
        try:
            lock.acquire(timeout=wait_s)
        except Timeout as error:
            raise ConflictError(
                "another image build is running", resolution="Try again when it has ended."
            ) from error
    try:
        yield
    finally:
        lock.release()


def sweep(store: Path) -> None:
    """Remove scratch directories of builds that were killed. Only under the lock."""
    for leftover in store.glob(f"{_SCRATCH}*"):
        _remove(leftover)


@contextmanager
def scratch(store: Path) -> Iterator[Path]:
    """Give a directory on the store's own file system, gone afterwards whatever happened."""
    directory = Path(mkdtemp(prefix=_SCRATCH, dir=store))
    try:
        yield directory
    finally:
        _remove(directory)


def publish(directory: Path, target: Path) -> None:
    """Make a finished directory part of the store: read-only, on disk, then renamed to ``target``.

    A target that exists holds the same content, since its name is a digest of it.
    """
    for file in directory.iterdir():
        file.chmod(0o444)
        _sync(file)
    directory.chmod(0o755)
    _sync(directory)
    if target.exists():
        return
    directory.rename(target)
    _sync(target.parent)


def remove(target: Path) -> None:
    """Take a directory out of the store: out of sight first, by one rename, then for good."""
    with scratch(target.parent) as directory:
        target.rename(directory / target.name)


def _remove(directory: Path) -> None:
    """Remove a tree, also while the last children of a killed build still write to it."""
    deadline = time.monotonic() + _SWEEP_DEADLINE_S
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        if time.monotonic() > deadline:
            raise ToolFailedError(
                f"{directory} cannot be removed", resolution="See what still writes to it, and remove it."
            )
        time.sleep(0.05)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
