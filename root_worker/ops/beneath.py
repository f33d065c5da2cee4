"""Open what is beneath one of our directories, and nothing else: no symlink in any component.

The VM directories belong to the unprivileged worker, which could swap a name at any moment. So root walks
by descriptors and looks at what it has opened, never at a name it has checked before.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from banger.contracts.errors import PolicyError, StageFailedError, is_full

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def directory(root: Path, path: Path) -> Iterator[int]:
    """Yield a descriptor of the directory ``path``, which lies beneath ``root``.

    StageFailedError when it is not there, PolicyError when a component is no directory.
    """
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.relative_to(root).parts:
            outer = fd
            with _explained(path):
                fd = os.open(part, _DIRECTORY, dir_fd=outer)
            os.close(outer)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def regular_file(
    root: Path, path: Path, owners: Collection[int], flags: int = os.O_RDONLY, mode: int = 0
) -> Iterator[int]:
    """Yield a descriptor of the regular file ``path`` beneath ``root``, of one name and one of ``owners``.

    StageFailedError when it is not there and ``flags`` do not make it, PolicyError when it is anything else.
    """
    with directory(root, path.parent) as parent:
        with _explained(path):
            # O_NONBLOCK: a FIFO must not hold us up before we have seen that it is one.
            flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(path.name, flags, mode, dir_fd=parent)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise PolicyError(f"{path} is not a regular file of one name")
            if found.st_uid not in owners:
                whose = " or ".join(map(str, sorted(owners)))
                raise PolicyError(f"{path} is owned by uid {found.st_uid}, not by {whose}")
            yield fd
        finally:
            os.close(fd)


def give(fd: int, uid: int, gid: int, mode: int) -> None:
    """Give an opened file to ``uid`` and ``gid``."""
    os.fchown(fd, uid, gid)
    os.fchmod(fd, mode)


def is_ours_alone(fd: int) -> bool:
    """Tell whether nobody else has the file open, which is root's by now: the kernel leases no other."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StageFailedError(f"{path} is not there") from error
    except OSError as error:  # ELOOP and ENOTDIR: a symlink; ENXIO: a socket
        if is_full(error):
            raise
        raise PolicyError(f"{path} leads elsewhere: {error.strerror}") from error
