"""A copy-on-write system disk in the kernel: dm-snapshot over the base, its changes in the overlay file.

Loops clear themselves (see ``loop``), so the device's name, which follows from the VM's id, is all that an
undo needs. libdm makes the node itself (``--noudevrules``): udev would set its owner back to root at every
change event, and a program that closes the disk after writing causes one.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from pathlib import Path

from banger.contracts.dm_snapshot import ALARM_PERCENT, create_args, remove_args, sectors, usage_percent
from banger.contracts.errors import StageFailedError
from banger.contracts.names import dm_name
from root_worker.ops import loop
from root_worker.ops.lock import held
from root_worker.shell import run, tool

_MAPPER = Path("/dev/mapper")
_DEADLINE_S = 30
_NODE_DEADLINE_S = 5.0

log = logging.getLogger("root_worker.dm_snapshot")


def path(vm_id: str) -> Path:
    """Return the system disk's device node."""
    return _MAPPER / dm_name(vm_id)


def attach(vm_id: str, base: int, overlay: int, uid: int, lock: Path) -> None:
    """Make the VM's snapshot device of two opened files, its node owned by ``uid``, unless it is there.

    ``lock`` is the host's lock file for disks: set-ups in parallel race for loops. StageFailedError when the
    snapshot has overflowed, or the node does not appear; nothing is left behind then.
    """
    with held(lock):
        if _table(vm_id) is None:
            with (
                loop.attached(base, read_only=True) as origin,
                loop.attached(overlay, read_only=False) as cow,
            ):
                _dmsetup(*create_args(vm_id, sectors(os.fstat(base).st_size), origin, cow, uid))
        try:
            _await_node(vm_id, uid)
            _watch_usage(vm_id)
        except BaseException:
            _dmsetup(*remove_args(vm_id))
            raise


def detach(vm_id: str, lock: Path) -> None:
    """Remove the VM's snapshot device, and with it its loops; forgives exactly its absence."""
    with held(lock):
        if _table(vm_id) is not None:
            _dmsetup(*remove_args(vm_id))


def _watch_usage(vm_id: str) -> None:
    percent = usage_percent(_dmsetup("status", dm_name(vm_id)))
    if percent >= ALARM_PERCENT:
        log.warning("the system disk's overlay of VM %s is %.0f %% full", vm_id, percent)


def _table(vm_id: str) -> str | None:
    """Return the device's table, None when there is no device; one that a kill left without is removed."""
    if dm_name(vm_id) not in _dmsetup("info", "--columns", "--noheadings", "-o", "name").split():
        return None
    table = _dmsetup("table", dm_name(vm_id))
    if " snapshot " in table:
        return table
    _dmsetup(*remove_args(vm_id))
    return None


def _await_node(vm_id: str, uid: int) -> None:
    deadline = time.monotonic() + _NODE_DEADLINE_S
    while not (path(vm_id).exists() and stat.S_ISBLK(path(vm_id).stat().st_mode)):
        if time.monotonic() > deadline:
            raise StageFailedError(f"{path(vm_id)} did not appear within {_NODE_DEADLINE_S:g} s")
        time.sleep(0.01)
    os.chown(path(vm_id), uid, uid)  # a device kept from an earlier do, perhaps of before a reboot of udev


def _dmsetup(*arguments: str) -> str:
    return run((tool("dmsetup"), *arguments), deadline_s=_DEADLINE_S).stdout.decode()
