"""A file that is there whole or not at all: made under a scratch name, on disk before it takes its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from banger.contracts.errors import ToolFailedError, disk_is_full, is_full


@contextmanager
def new_file(target: Path, mode: int) -> Iterator[Path]:
    """Yield a scratch path beside ``target``; what the block makes there takes the target's name at its end.

    CapacityError when the disk is full. The scratch file never stays, unless this process is killed: the
    next call removes it then.
    """
    scratch = target.with_name(f"{target.name}.new")
    scratch.unlink(missing_ok=True)
    try:
        yield scratch
        scratch.chmod(mode)
        sync(scratch)
        scratch.replace(target)
        sync(target.parent)
    except (OSError, ToolFailedError) as error:
        if not _met_a_full_disk(error):
            raise
        raise disk_is_full(target, str(error)) from error
    finally:
        scratch.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a directory's names, are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _met_a_full_disk(error: OSError | ToolFailedError) -> bool:
    if isinstance(error, OSError):
        return is_full(error)
    return os.strerror(errno.ENOSPC) in error.details
