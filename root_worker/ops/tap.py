"""The VM's tap: made, opened for the VMM, removed; found again by name and alias alone.

The name holds 11 of the id's 12 digits, so the alias, which holds them all, says whose a tap is. A tap
gets its alias before it is made persistent: one without ours is a stranger's and is never touched.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from banger.contracts import linux
from banger.contracts.errors import PolicyError, StageFailedError
from banger.contracts.names import BRIDGE, Slot, link_alias, tap_name

# QEMU asks the descriptor (TUNGETIFF) for the last of these, and keeps checksums offloaded where it is set.
_MODE = linux.IFF_TAP | linux.IFF_NO_PI | linux.IFF_VNET_HDR
# Frames to 01:80:c2:00:00:xx (LLDP and its like) go through the bridge's filter as all others do. Left alone,
# some go round it into the host, whatever they carry. The one that may not be asked for is always dropped.
_NO_WAY_ROUND = 0xFFFF & ~0x0002


def find_link(ip: IPRoute, name: str) -> Any | None:
    """Return an interface as a netlink message, None when absent."""
    try:
        (link,) = ip.link("get", ifname=name)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        return None
    return link


def find_tap(ip: IPRoute, vm_id: str) -> Any | None:
    """Return the VM's tap as a netlink message, None when absent; PolicyError when it is a stranger's."""
    link = find_link(ip, tap_name(vm_id))
    if link is not None and (alias := link.get("IFLA_IFALIAS")) != link_alias(vm_id):
        raise PolicyError(
            f"the interface {tap_name(vm_id)} is not a tap of VM {vm_id}",
            details=f"its alias is {alias!r}, not {link_alias(vm_id)!r}",
            resolution="Remove the interface, or create the VM again: it gets another id.",
        )
    return link


def create_tap(ip: IPRoute, vm_id: str, slot: Slot, bridge: int) -> None:
    """Make the VM's tap once, owned by the slot's uid, an isolated port of the bridge (its index), and up.

    PolicyError when the name is a stranger's, StageFailedError when the bridge has no room for another port.
    """
    link = find_tap(ip, vm_id)
    index = int(link["index"]) if link is not None else _create_persistent(ip, vm_id, slot.uid)
    ipv6 = Path("/proc/sys/net/ipv6/conf", tap_name(vm_id), "disable_ipv6")
    if ipv6.exists():
        ipv6.write_text("1")  # the host should not speak it to the guest
    try:
        ip.link("set", index=index, master=bridge)
    except NetlinkError as error:
        if error.code != errno.EXFULL:
            raise
        brief, why = f"{BRIDGE} has no port left", "a bridge of Linux has 1,023, and each VM that runs one"
        raise StageFailedError(brief, details=why, resolution="Stop VMs, or use another host.") from error
    # Kept from other isolated ports; and the bridge knows its one MAC instead of learning any.
    port = {"isolated": 1, "learning": 0, "unicast_flood": 0, "mcast_flood": 0}
    ip.brport("set", index=index, group_fwd_mask=_NO_WAY_ROUND, **port)
    # Permanent: whoever holds a tap's descriptor may give the tap a MAC, and the bridge would let it have a
    # neighbour's, with that one's frames, were these entries of any other kind.
    ip.fdb("replace", ifindex=index, lladdr=slot.mac, state=linux.NUD_PERMANENT)
    ip.link("set", index=index, state="up")


def open_tap(vm_id: str) -> int:
    """Return a descriptor attached to the VM's tap, for the VMM (``-netdev tap,fd=N``).

    It is close-on-exec and closing it leaves the tap. StageFailedError when there is no tap; PolicyError when
    it is a stranger's; OSError (EBUSY) when a VMM holds it already.
    """
    require_tap(vm_id)
    return _attach(vm_id, _MODE)


def require_tap(vm_id: str) -> None:
    """Raise StageFailedError when the VM has no tap; PolicyError when it is a stranger's."""
    with IPRoute() as ip:
        if find_tap(ip, vm_id) is None:
            raise StageFailedError(f"VM {vm_id} has no tap", resolution="Start the VM again.")


def remove_tap(ip: IPRoute, vm_id: str) -> None:
    """Remove the VM's tap; forgives exactly its absence. PolicyError when the name is a stranger's."""
    if (link := find_tap(ip, vm_id)) is None:
        return
    try:
        ip.link("del", index=link["index"])
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _create_persistent(ip: IPRoute, vm_id: str, uid: int) -> int:
    fd = _attach(vm_id, _MODE | linux.IFF_TUN_EXCL)
    try:
        (index,) = ip.link_lookup(ifname=tap_name(vm_id))
        ip.link("set", index=index, IFLA_IFALIAS=link_alias(vm_id))
        fcntl.ioctl(fd, linux.TUNSETOWNER, uid)
        fcntl.ioctl(fd, linux.TUNSETPERSIST, 1)  # last: had we died before, the tap would be gone
    finally:
        os.close(fd)
    return int(index)


def _attach(vm_id: str, mode: int) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, linux.TUNSETIFF, linux.tun_request(tap_name(vm_id), mode))
    except BaseException:
        os.close(fd)
        raise
    return fd
