"""How this host can make a system disk of an image: asked by ``banger doctor``, decided by ``farm up``.

``auto`` is the first that works of dm-snapshot (on any file system; a guest's growth is bounded, and all VMs
share the base's page cache), reflink, and copy. See docs/decisions/0036.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from banger.contracts.errors import InvalidInputError, ToolFailedError
from banger.contracts.linux import LOOP_CTL_GET_FREE
from banger.contracts.names import HostPaths
from banger.settings import Settings
from banger.shell import find_tool, run

_ASK_DEADLINE_S = 10.0
_LOOPS = Path("/dev/loop-control")
_MISSING = {
    "dm-snapshot": "it needs device-mapper with snapshots in the kernel, loop devices, and dmsetup",
    "reflink": "the state directory has to be on XFS or btrfs",
}
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)


def resolved(settings: Settings) -> Settings:
    """Return the settings with ``disk_backend`` made concrete: the best that works here. Needs root.

    InvalidInputError where another is configured that does not work.
    """
    works: dict[str, Callable[[], bool | None]] = {
        "dm-snapshot": lambda: has_snapshot_target() and not no_loops(),
        "reflink": lambda: can_reflink(settings.paths),
        "copy": lambda: True,
    }
    wanted = settings.disk_backend
    if wanted == "auto":
        return settings.model_copy(update={"disk_backend": next(name for name in works if works[name]())})
    if not works[wanted]():
        raise InvalidInputError(
            f"disk_backend is {wanted}, which does not work on this host",
            details=_MISSING[wanted],
            resolution="Set disk_backend to auto; `banger doctor` tells what that is here, and why.",
        )
    return settings


def has_snapshot_target() -> bool:
    """Tell whether device-mapper knows snapshots, now or once its module is loaded. Needs root."""
    if not Path("/dev/mapper/control").exists():
        return False
    targets = _says("dmsetup", "targets")
    if targets is None:
        return False
    loaded = any(line.startswith(b"snapshot ") for line in targets.splitlines())
    return loaded or _says("modprobe", "--dry-run", "--quiet", "dm-snapshot") is not None


def no_loops() -> str:
    """Return why no loop device can be had, empty where one can. Needs root."""
    try:
        control = os.open(_LOOPS, os.O_RDWR | os.O_CLOEXEC)
        try:
            free = Path(f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}")
        finally:
            os.close(control)
    except OSError as error:
        return f"{_LOOPS}: {error.strerror}"
    return "" if free.exists() else f"the free one is {free}, which is not there, as in a container"


def can_reflink(paths: HostPaths) -> bool | None:
    """Tell whether images can be cloned for VMs, by files without names; None where this user may not try."""
    there = next(path for path in (paths.state, *paths.state.parents) if path.is_dir())
    source, target = (path if path.is_dir() else there for path in (paths.images, paths.vms))
    try:
        base = os.open(source, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except PermissionError:
        return None
    except OSError:
        return False
    try:
        os.write(base, bytes(4096))
        clone = os.open(target, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.ioctl(clone, _FICLONE, base)
        finally:
            os.close(clone)
    except OSError:
        return False
    finally:
        os.close(base)
    return True


def _says(tool: str, *arguments: str) -> bytes | None:
    """Return what a tool prints; None when it is not there, or fails."""
    try:
        return run((find_tool(tool), *arguments), deadline_s=_ASK_DEADLINE_S).stdout
    except ToolFailedError:
        return None
