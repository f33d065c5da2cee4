"""A file system of the farm's own that is small enough to be filled, for its state."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

SIZE = 2 * 1024**3  # twenty VMs of the micro image take an eighth of it; the kernel and the image are there


@contextlib.contextmanager
def small_disk(root: Path) -> Iterator[None]:
    """Mount a new file system where a box keeps its state; what it keeps until a reboot lies elsewhere."""
    backing, place = root / "disk", root / "state"
    place.mkdir()
    backing.touch()
    os.truncate(backing, SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", backing], check=True)
    subprocess.run(["mount", "-o", "loop", backing, place], check=True)
    try:
        place.chmod(0o711)
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@contextlib.contextmanager
def filled(directory: Path) -> Iterator[None]:
    """Leave not a byte free where the directory is, while in the block."""
    filler = directory / "filler"
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            free = os.statvfs(directory)
            os.posix_fallocate(file.fileno(), 0, max(1, (free.f_bavail - 256) * free.f_frsize))
            file.seek(0, os.SEEK_END)
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        filler.unlink(missing_ok=True)
