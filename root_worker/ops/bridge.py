"""The host's one bridge, which every tap is a port of and whose address is the guests' gateway."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from banger.contracts.errors import PolicyError
from banger.contracts.names import BRIDGE, Slot, mac_address
from root_worker.ops.sysctl import disable_ipv6

_NUD_PERMANENT = 0x80


def ensure_bridge(ip: IPRoute, gateway: IPv4Address, prefix: int) -> int:
    """Make the bridge once, give it the gateway's address, bring it up; return its interface index.

    PolicyError when an interface of that name is no bridge.
    """
    with _forgiving(errno.EEXIST):
        # A MAC of its own: without one a bridge takes its ports', and guests would lose it with a tap.
        ip.link("add", ifname=BRIDGE, kind="bridge", address=mac_address(gateway))
    (link,) = ip.link("get", ifname=BRIDGE)
    if _kind(link) != "bridge":
        raise PolicyError(
            f"the interface {BRIDGE} is not a bridge",
            details=f"it is of kind {_kind(link)!r}",
            resolution=f"Remove or rename it: banger needs {BRIDGE} for its guests.",
        )
    index = int(link["index"])
    disable_ipv6(BRIDGE)  # guests have none, and the host should not be found over it
    with _forgiving(errno.EEXIST):
        ip.addr("add", index=index, address=str(gateway), prefixlen=prefix)
    ip.link("set", index=index, state="up")
    return index


def introduce_guest(ip: IPRoute, bridge: int, slot: Slot) -> None:
    """Tell the host the guest's MAC: nobody need ask, so none can lie, and a booting guest is found at once.

    Left to ARP, the host asks once a second, which is a second of slack when waiting for a guest.
    """
    ip.neigh("replace", ifindex=bridge, dst=str(slot.address), lladdr=slot.mac, state=_NUD_PERMANENT)


def forget_guest(ip: IPRoute, slot: Slot) -> None:
    """Take the guest's MAC from the host's memory; forgives exactly its absence, or the bridge's."""
    bridges = ip.link_lookup(ifname=BRIDGE)
    with _forgiving(errno.ENOENT):
        for bridge in bridges:
            ip.neigh("del", ifindex=bridge, dst=str(slot.address), lladdr=slot.mac)


def remove_bridge(ip: IPRoute) -> None:
    """Remove the bridge, unless it has ports or is none of ours; forgives exactly its absence."""
    for index in ip.link_lookup(ifname=BRIDGE):
        (link,) = ip.link("get", index=index)
        if _kind(link) == "bridge" and not ip.link_lookup(master=index):
            ip.link("del", index=index)


def _kind(link: Any) -> str | None:
    info = link.get("IFLA_LINKINFO")
    return info.get("IFLA_INFO_KIND") if info is not None else None


@contextlib.contextmanager
def _forgiving(code: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise
