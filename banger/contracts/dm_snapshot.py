"""dm-snapshot as dmsetup takes and tells it: arguments, table, and how full an overlay is."""

from __future__ import annotations

import re
from pathlib import Path

from banger.contracts.errors import StageFailedError
from banger.contracts.names import dm_name

ALARM_PERCENT = 80.0

_SECTOR = 512
_CHUNK_SECTORS = 8  # 4 KiB, the block of the ext4 above
_USAGE = re.compile(r"\d+ \d+ snapshot (\d+)/(\d+) \d+")


def create_args(vm_id: str, length: int, origin: Path, cow: Path, uid: int) -> tuple[str, ...]:
    """Return what makes a device of ``length`` sectors: persistent (P), so that it outlives a restart."""
    return (
        *("create", dm_name(vm_id), "--noudevrules", "--noudevsync"),
        *("--uid", str(uid), "--gid", str(uid), "--mode", "0600"),
        *("--table", f"0 {length} snapshot {origin} {cow} P {_CHUNK_SECTORS}"),
    )


def remove_args(vm_id: str) -> tuple[str, ...]:
    """Return what removes the device, trying again while something has it open for a moment."""
    return ("remove", "--retry", "--noudevrules", "--noudevsync", dm_name(vm_id))


def usage_percent(status: str) -> float:
    """Return how full the overlay is, from ``dmsetup status``; StageFailedError when it has overflowed."""
    match = _USAGE.search(status)
    if not match:
        raise StageFailedError(
            "The system disk's overlay is no longer valid: it overflowed",
            details=status.strip(),
            resolution="Its changes are lost. Delete the VM and create it with a larger --system-disk.",
        )
    return 100 * int(match[1]) / int(match[2])


def sectors(size: int) -> int:
    """Return a base image's size (bytes) in sectors; StageFailedError when that is no whole number."""
    if size % _SECTOR:
        raise StageFailedError(f"The base image's size, {size} bytes, is not a multiple of {_SECTOR}")
    return size // _SECTOR
