"""A copy-on-write system disk in the kernel: dm-snapshot over the base, its changes in the overlay file.

Loops clear themselves (see ``loop``), so the device's name, which follows from the VM's id, is all that an
undo needs. libdm makes the node itself, before dmsetup ends: udev would set its owner back to root at every
change event, and a program that closes the disk after writing causes one.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

from banger.contracts import linux
from banger.contracts.dm_snapshot import Overlay, create_args, overlay_of, remove_args, require_room, sectors
from banger.contracts.errors import StageFailedError, ToolFailedError
from banger.contracts.names import dm_name
from root_worker.ops import loop
from root_worker.ops.lock import held
from root_worker.shell import run, tool

_MAPPER = Path("/dev/mapper")
_DEADLINE_S = 30

log = logging.getLogger("root_worker.dm_snapshot")


def path(vm_id: str) -> Path:
    """Return the system disk's device node."""
    return _MAPPER / dm_name(vm_id)


def attach(vm_id: str, base: int, overlay: int, uid: int, lock: Path) -> None:
    """Make the VM's snapshot device of two opened files, its node owned by ``uid``, unless it is there.

    ``lock`` is the host's lock file for disks: set-ups in parallel race for loops. StageFailedError when the
    overlay is full or invalid, or there is no node; nothing is left behind then.
    """
    with held(lock) as fd:
        if _has_snapshot(vm_id, fd) and not path(vm_id).is_block_device():
            _remove(vm_id, fd)  # a kill came before its node
        if not _has_snapshot(vm_id, fd):
            with (
                loop.attached(base, read_only=True) as origin,
                loop.attached(overlay, read_only=False) as cow,
            ):
                _create(create_args(vm_id, sectors(os.fstat(base).st_size), origin, cow, uid), fd)
        try:
            _own_node(vm_id, uid)
            _watch_usage(vm_id, overlay)
        except BaseException:
            _remove(vm_id, fd)
            raise


def detach(vm_id: str, lock: Path) -> None:
    """Remove the VM's snapshot device, and with it its loops; forgives exactly its absence."""
    with held(lock) as fd:
        if _has_snapshot(vm_id, fd):
            _remove(vm_id, fd)
        path(vm_id).unlink(missing_ok=True)  # a kill came after the device; its number may be another's soon


def usage(name: str) -> Overlay | None:
    """Return how full a device's overlay is; None where there is no such device, or it is no snapshot."""
    kind, status = _target(name) or ("", "")
    return overlay_of(status) if kind == "snapshot" else None


def _create(arguments: tuple[str, ...], lock: int) -> None:
    try:
        _dmsetup(arguments, lock)
    except ToolFailedError as error:
        raise StageFailedError(
            "The kernel made no snapshot device",
            details="\n".join(filter(None, (error.brief, error.details))),
            resolution="`banger doctor` tells whether this kernel has dm-snapshot.",
        ) from error


def _watch_usage(vm_id: str, overlay: int) -> None:
    found = usage(dm_name(vm_id))
    if found is None:
        raise StageFailedError(f"{dm_name(vm_id)} was removed while it was attached")
    require_room(found, os.fstat(overlay).st_size)
    if found.level:
        log.warning("the system disk's overlay of VM %s is %s", vm_id, found)


def _remove(vm_id: str, lock: int) -> None:
    _dmsetup(remove_args(vm_id), lock)


def _has_snapshot(vm_id: str, lock: int) -> bool:
    """Tell whether the VM's device is there; one that a kill left without a table is removed."""
    target = _target(dm_name(vm_id))
    if target is None:
        return False
    if target[0] == "snapshot":
        return True
    _remove(vm_id, lock)
    return False


def _target(name: str) -> tuple[str, str] | None:
    """Return the type and the status of a device's target, None without a device. The kernel is asked itself:
    of all VMs, every few seconds, dmsetup would be a process each.
    """
    request = linux.dm_request(name)
    try:
        control = os.open(_MAPPER / "control", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(control, linux.DM_TABLE_STATUS, request)
        finally:
            os.close(control)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENXIO):  # no device-mapper; no device
            raise
        return None
    return linux.dm_target(request)


def _own_node(vm_id: str, uid: int) -> None:
    if not path(vm_id).is_block_device():
        raise StageFailedError(f"dmsetup made no node {path(vm_id)}")
    os.chown(path(vm_id), uid, uid)  # of a device that was kept it may be udev's by now


def _dmsetup(arguments: tuple[str, ...], lock: int) -> None:
    run((tool("dmsetup"), *arguments), deadline_s=_DEADLINE_S, pass_fds=(lock,))
