"""Copy a file's data and keep its holes: the system disk where nothing better works."""

from __future__ import annotations

import os

from banger.contracts.errors import StageFailedError, ToolFailedError
from banger.contracts.sizes import format_mib
from root_worker.shell import run, tool

_MIB = 1024 * 1024
_DEADLINE_S = 100


def fill(base: int, target: int) -> None:
    """Copy ``base`` into the empty file ``target``; StageFailedError with both sizes when it does not fit."""
    need = os.fstat(base).st_blocks * 512
    room = os.fstatvfs(target)
    free = room.f_bavail * room.f_frsize
    if need > free:
        raise _full(need, free)
    try:
        run(
            (tool("cp"), "--sparse=always", "--reflink=never", _path(base), _path(target)),
            deadline_s=_DEADLINE_S,
            pass_fds=(base, target),
        )
    except ToolFailedError as error:
        if "No space left on device" not in error.details:
            raise
        raise _full(need, free) from error


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _full(need: int, free: int) -> StageFailedError:
    return StageFailedError(
        "The base image does not fit on the disk",
        details=f"a copy needs {format_mib(need // _MIB)}, {format_mib(free // _MIB)} is free",
        resolution="Free space (`banger prune`), or keep the state on XFS or btrfs: clones are free there.",
    )
