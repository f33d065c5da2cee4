"""What a machine must have to run the lab: said before anything is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab import cache, qemu

SMALLEST_FREE_MIB = 6 * 1024  # a Debian, a copy of it, the disk made of that, and what a run writes
_TOOLS = ("mmdebstrap", "mkfs.ext4", "cpio", "ssh", "ssh-keygen", "setpriv", "tar")
_MIB = 1024 * 1024


def missing() -> str | None:
    """Return why the lab cannot run here; None when it can."""
    if os.geteuid() != 0:
        return "it needs root: to make its host's disk"
    if not qemu.BINARY.exists():
        return f"{qemu.BINARY} is not installed (qemu-system-x86)"
    if absent := [
        tool for tool in _TOOLS if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None
    ]:
        return f"not installed: {', '.join(absent)}"
    place = next(parent for parent in (cache.CACHE, *cache.CACHE.parents) if parent.exists())
    for path in (place, Path("/var/tmp")):
        if (free := shutil.disk_usage(path).free // _MIB) < SMALLEST_FREE_MIB:
            return f"{path} has {free} MiB free, and {SMALLEST_FREE_MIB} are needed"
    return None
