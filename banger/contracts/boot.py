"""Which boot of its machine this is, as the kernel names it: what a kernel held before is gone."""

from __future__ import annotations

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the id of this boot."""
    return BOOT_ID.read_text().strip()
