"""The VM's tap: made, opened for the VMM, removed; found again by name and alias alone.

The name holds 11 of the id's 12 digits, so the alias, which holds them all, says whose a tap is. A tap
gets its alias before it is made persistent: one without ours is a stranger's and is never touched.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from banger.contracts.errors import PolicyError, StageFailedError
from banger.contracts.names import TAP_PREFIX, Slot, link_alias, tap_name
from root_worker.ops.sysctl import disable_ipv6

# From linux/if_tun.h.
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOWNER = 0x400454CC
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000  # QEMU asks the descriptor (TUNGETIFF) and keeps checksums offloaded where it is set
_MODE = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
_IFF_TUN_EXCL = 0x8000  # make, never attach to what is there

_NUD_NOARP_PERMANENT = 0x40 | 0x80  # NUD_NOARP | NUD_PERMANENT: `bridge fdb … static` never ages out


def find_tap(ip: IPRoute, vm_id: str) -> Any | None:
    """Return the VM's tap as a netlink message, None when absent; PolicyError when it is a stranger's."""
    link = _find_link(ip, tap_name(vm_id))
    if link is not None and _is_strangers(link, vm_id):
        raise PolicyError(
            f"the interface {tap_name(vm_id)} is not a tap of VM {vm_id}",
            details=f"its alias is {link.get('IFLA_IFALIAS')!r}, not {link_alias(vm_id)!r}",
            resolution="Remove the interface, or create the VM again: it gets another id.",
        )
    return link


def tap_is_strangers(ip: IPRoute, vm_id: str) -> bool:
    """Tell whether the VM's tap name is taken by an interface that is not this VM's."""
    link = _find_link(ip, tap_name(vm_id))
    return link is not None and _is_strangers(link, vm_id)


def create_tap(ip: IPRoute, vm_id: str, slot: Slot, bridge: int) -> None:
    """Make the VM's tap once, owned by the slot's uid, an isolated port of the bridge (its index), and up.

    PolicyError when the name is a stranger's.
    """
    link = find_tap(ip, vm_id)
    if link is not None and _owner(link) != slot.uid:
        ip.link("del", index=link["index"])
        link = None
    index = link["index"] if link is not None else _create_persistent(ip, vm_id, slot.uid)
    disable_ipv6(tap_name(vm_id))  # the host should not speak it to the guest
    ip.link("set", index=index, master=bridge)
    _isolate(ip, index, slot.mac)
    ip.link("set", index=index, state="up")


def open_tap(vm_id: str) -> int:
    """Return a descriptor attached to the VM's tap, for the VMM (``-netdev tap,fd=N``).

    It is close-on-exec and closing it leaves the tap. StageFailedError when there is no tap; PolicyError when
    it is a stranger's; OSError (EBUSY) when a VMM holds it already.
    """
    with IPRoute() as ip:
        if find_tap(ip, vm_id) is None:
            raise StageFailedError(f"VM {vm_id} has no tap", resolution="Start the VM again.")
    return _attach(tap_name(vm_id))


def remove_tap(ip: IPRoute, vm_id: str) -> None:
    """Remove the VM's tap; forgives exactly its absence. PolicyError when the name is a stranger's."""
    link = find_tap(ip, vm_id)
    if link is None:
        return
    try:
        ip.link("del", index=link["index"])
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def any_tap(ip: IPRoute) -> bool:
    """Tell whether any interface on this host has a tap's name."""
    return any(str(link.get("IFLA_IFNAME")).startswith(TAP_PREFIX) for link in ip.get_links())


def _find_link(ip: IPRoute, name: str) -> Any | None:
    try:
        (link,) = ip.link("get", ifname=name)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return link


def _is_strangers(link: Any, vm_id: str) -> bool:
    return bool(link.get("IFLA_IFALIAS") != link_alias(vm_id))


def _attach(name: str, mode: int = _MODE) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), mode))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create_persistent(ip: IPRoute, vm_id: str, uid: int) -> int:
    fd = _attach(tap_name(vm_id), _MODE | _IFF_TUN_EXCL)
    try:
        (link,) = ip.link("get", ifname=tap_name(vm_id))
        ip.link("set", index=link["index"], IFLA_IFALIAS=link_alias(vm_id))
        fcntl.ioctl(fd, _TUNSETOWNER, uid)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)  # last: had we died before, the kernel would have removed the tap
    finally:
        os.close(fd)
    return int(link["index"])


def _owner(link: Any) -> int | None:
    info = link.get("IFLA_LINKINFO")
    data = info.get("IFLA_INFO_DATA") if info is not None else None
    return data.get("IFLA_TUN_OWNER") if data is not None else None


def _isolate(ip: IPRoute, index: int, mac: str) -> None:
    """Keep a port from other isolated ports, and let the bridge know its one MAC instead of learning any."""
    ip.brport("set", index=index, isolated=1, learning=0, unicast_flood=0, mcast_flood=0)
    ip.fdb("replace", ifindex=index, lladdr=mac, state=_NUD_NOARP_PERMANENT)
