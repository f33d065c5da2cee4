"""A copy-on-write system disk in the kernel: dm-snapshot over the base, its changes in the overlay file.

Loops clear themselves (see ``loop``), so the device's name, which follows from the VM's id, is all that an
undo needs. libdm makes the node itself (``--noudevrules``): udev would set its owner back to root at every
change event, and a program that closes the disk after writing causes one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from banger.contracts.errors import StageFailedError
from banger.contracts.names import dm_name
from root_worker.ops import loop
from root_worker.shell import run, tool

ALARM_PERCENT = 80.0

_MAPPER = Path("/dev/mapper")
_SECTOR = 512
_CHUNK_SECTORS = 8  # 4 KiB, the block of the ext4 above
_DEADLINE_S = 30
_NODE_DEADLINE_S = 5.0
_USAGE = re.compile(r"\d+ \d+ snapshot (\d+)/(\d+) \d+")

log = logging.getLogger("root_worker.dm_snapshot")


def path(vm_id: str) -> Path:
    """Return the system disk's device node."""
    return _MAPPER / dm_name(vm_id)


def attach(vm_id: str, base: int, overlay: int, uid: int, lock: Path) -> None:
    """Make the VM's snapshot device of two opened files, its node owned by ``uid``, unless it is there.

    ``lock`` is the host's lock file for disks: set-ups in parallel race for loops. StageFailedError when the
    snapshot has overflowed, or the node does not appear; nothing is left behind then.
    """
    with _locked(lock):
        if _table(vm_id) is None:
            with (
                loop.attached(base, read_only=True) as origin,
                loop.attached(overlay, read_only=False) as cow,
            ):
                run(create_argv(vm_id, _sectors(base), origin, cow, uid), deadline_s=_DEADLINE_S)
        try:
            _await_node(vm_id, uid)
            _watch_usage(vm_id)
        except BaseException:
            run(remove_argv(vm_id), deadline_s=_DEADLINE_S)
            raise


def detach(vm_id: str, lock: Path) -> None:
    """Remove the VM's snapshot device, and with it its loops; forgives exactly its absence."""
    with _locked(lock):
        if _table(vm_id) is not None:
            run(remove_argv(vm_id), deadline_s=_DEADLINE_S)


def create_argv(vm_id: str, sectors: int, origin: Path, cow: Path, uid: int) -> tuple[str, ...]:
    """Return what makes the device: persistent (P), so that it outlives a restart of VM and host."""
    return (
        *(tool("dmsetup"), "create", dm_name(vm_id), "--noudevrules", "--noudevsync"),
        *("--uid", str(uid), "--gid", str(uid), "--mode", "0600"),
        *("--table", f"0 {sectors} snapshot {origin} {cow} P {_CHUNK_SECTORS}"),
    )


def remove_argv(vm_id: str) -> tuple[str, ...]:
    """Return what removes the device, trying again while something has it open for a moment."""
    return (tool("dmsetup"), "remove", "--retry", "--noudevrules", "--noudevsync", dm_name(vm_id))


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


def _watch_usage(vm_id: str) -> None:
    status = run((tool("dmsetup"), "status", dm_name(vm_id)), deadline_s=_DEADLINE_S).stdout.decode()
    percent = usage_percent(status)
    if percent >= ALARM_PERCENT:
        log.warning("the system disk's overlay of VM %s is %.0f %% full", vm_id, percent)


def _table(vm_id: str) -> str | None:
    """Return the device's table, None when there is no device; one that a kill left without is removed."""
    known = run((tool("dmsetup"), "info", "--columns", "--noheadings", "-o", "name"), deadline_s=_DEADLINE_S)
    if dm_name(vm_id) not in known.stdout.decode().split():
        return None
    table = run((tool("dmsetup"), "table", dm_name(vm_id)), deadline_s=_DEADLINE_S).stdout.decode()
    if " snapshot " in table:
        return table
    run(remove_argv(vm_id), deadline_s=_DEADLINE_S)
    return None


def _sectors(base: int) -> int:
    size = os.fstat(base).st_size
    if size % _SECTOR:
        raise StageFailedError(f"The base image's size, {size} bytes, is not a multiple of {_SECTOR}")
    return size // _SECTOR


def _await_node(vm_id: str, uid: int) -> None:
    deadline = time.monotonic() + _NODE_DEADLINE_S
    while not (path(vm_id).exists() and stat.S_ISBLK(path(vm_id).stat().st_mode)):
        if time.monotonic() > deadline:
            raise StageFailedError(f"{path(vm_id)} did not appear within {_NODE_DEADLINE_S:g} s")
        time.sleep(0.01)
    os.chown(path(vm_id), uid, uid)  # a device kept from an earlier do, perhaps of before a reboot of udev


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
