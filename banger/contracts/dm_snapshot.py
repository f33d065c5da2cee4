"""dm-snapshot as dmsetup takes it and the kernel tells it: arguments, table, and how full an overlay is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from banger.contracts.errors import StageFailedError
from banger.contracts.names import dm_name
from banger.contracts.requests import Frozen

ALARM_PERCENT = 80.0

Level = Literal["", "filling", "full", "invalid"]
LEVELS: tuple[Level, ...] = ("", "filling", "full", "invalid")  # each worse than the one before

_SECTOR = 512
_CHUNK_SECTORS = 8  # 4 KiB, the block of the ext4 above
# Where udev runs, libdm makes and removes a node itself only if it is told both to do so and to look.
_OWN_NODE = ("--noudevrules", "--noudevsync", "--verifyudev")
_USAGE = re.compile(r"(\d+)/(\d+) \d+")


class Overlay(Frozen):
    """How much of the room for a guest's changes is used, in percent, and what has become of it.

    ``full``: the guest's writes fail, and what was written before stands. ``invalid``: all changes are lost.
    """

    percent: float
    state: Literal["ok", "full", "invalid"] = "ok"

    @property
    def level(self) -> Level:
        """What there is to tell of it, nothing below the alarm; events are called so."""
        if self.state == "ok":
            return "filling" if self.percent >= ALARM_PERCENT else ""
        return self.state

    def __str__(self) -> str:
        said = {
            "ok": "used",
            "full": "used: writes fail",
            "invalid": "used, and invalid: its changes are lost",
        }
        return f"{self.percent:.0f} % {said[self.state]}"


def create_args(vm_id: str, length: int, origin: Path, cow: Path, uid: int) -> tuple[str, ...]:
    """Return what makes a device of ``length`` sectors: persistent (P), so that it outlives a restart.

    With O, an overlay that is full fails the guest's writes. Without it, the kernel would throw all away.
    """
    return (
        *("create", dm_name(vm_id), *_OWN_NODE),
        *("--uid", str(uid), "--gid", str(uid), "--mode", "0600"),
        *("--table", f"0 {length} snapshot {origin} {cow} PO {_CHUNK_SECTORS}"),
    )


def remove_args(vm_id: str) -> tuple[str, ...]:
    """Return what removes the device, trying again while something has it open for a moment."""
    return ("remove", "--retry", *_OWN_NODE, dm_name(vm_id))


def overlay_of(status: str) -> Overlay:
    """Return how full an overlay is, from a snapshot's status: two numbers of sectors, or what went wrong.

    It is full where the next chunk would not fit: only a write tells the kernel.
    """
    if match := _USAGE.fullmatch(status):
        used, room = int(match[1]), int(match[2])
        state: Literal["ok", "full"] = "full" if used + _CHUNK_SECTORS > room else "ok"
        return Overlay(percent=round(100 * used / room, 1) if room else 100.0, state=state)
    return Overlay(percent=100.0, state="full" if status == "Overflow" else "invalid")


def require_room(overlay: Overlay, size: int) -> None:
    """Raise StageFailedError for an overlay of ``size`` bytes that a guest cannot be booted with."""
    if overlay.state == "full":
        raise StageFailedError(
            "The system disk is full: all its room for changes is used",
            details=f"it has {size // 2**20} MiB, and what a guest deletes does not come back; what was"
            " written before is kept",
            resolution="Give it more: `banger vm kill NAME`, `banger vm set NAME --system-disk SIZE`, `banger"
            " vm start NAME`.",
        )
    if overlay.state == "invalid":
        raise StageFailedError(
            "The system disk's overlay is no longer valid: all that the guest had written there is lost",
            details="the kernel could not write to it, as on a host whose own disk is full or broken",
            resolution="Delete the VM and create it again; `banger doctor` tells how much room the host has.",
        )


def sectors(size: int) -> int:
    """Return a base image's size (bytes) in sectors; StageFailedError when that is no whole number."""
    if size % _SECTOR:
        raise StageFailedError(f"The base image's size, {size} bytes, is not a multiple of {_SECTOR}")
    return size // _SECTOR
