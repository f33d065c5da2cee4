"""What a machine must have to run the lab: said before anything is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab import cache, qemu

SMALLEST_FREE_MIB = 6 * 1024  # a Debian, a copy of it, the disk made of that, and what a run writes
SPARE_MEMORY_MIB = 1024  # beside the host's own: what its QEMU translates, pytest, and pip's wheels
MEMORY = Path("/proc/meminfo")
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
    return None


def cramped() -> str | None:
    """Return what this machine has too little of to boot a host now; None when it has enough."""
    wanted = qemu.MEMORY_MIB + SPARE_MEMORY_MIB
    if (free := _available_mib()) < wanted:
        return f"{free} MiB of memory are available, and {wanted} are needed"
    place = next(parent for parent in (cache.CACHE, *cache.CACHE.parents) if parent.exists())
    for path in (place, Path("/var/tmp")):
        if (free := shutil.disk_usage(path).free // _MIB) < SMALLEST_FREE_MIB:
            return f"{path} has {free} MiB free, and {SMALLEST_FREE_MIB} are needed"
    return None


def _available_mib() -> int:
    """Return how much the kernel says that it could give, without swap."""
    said = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    return int(said["MemAvailable"].split()[0]) // 1024
