"""How this host can make a system disk of an image: asked by ``banger doctor``, decided by ``farm up``."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from banger.contracts.errors import ToolFailedError
from banger.contracts.names import HostPaths
from banger.settings import Settings
from banger.shell import find_tool, run

_ASK_DEADLINE_S = 10.0
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)


def resolved(settings: Settings) -> Settings:
    """Return the settings with ``disk_backend`` made concrete: the best that works here. Needs root."""
    if settings.disk_backend != "auto":
        return settings
    backend = "dm-snapshot" if has_snapshot_target() else "reflink" if can_reflink(settings.paths) else "copy"
    return settings.model_copy(update={"disk_backend": backend})


def has_snapshot_target() -> bool:
    """Tell whether device-mapper knows snapshots, now or once its module is loaded. Needs root."""
    if not Path("/dev/mapper/control").exists():
        return False
    targets = _says("dmsetup", "targets")
    if targets is None:
        return False
    loaded = any(line.startswith(b"snapshot ") for line in targets.splitlines())
    return loaded or _says("modprobe", "--dry-run", "--quiet", "dm-snapshot") is not None


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
