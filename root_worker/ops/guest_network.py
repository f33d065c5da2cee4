"""A guest's place in the network that the farm's start has made: its rules, its MAC in the host's memory."""

from __future__ import annotations

import errno

from pyroute2 import IPRoute, NetlinkError

from banger.contracts.errors import StageFailedError, ToolFailedError
from banger.contracts.guest_filter import guest_removal, guest_rules, script
from banger.contracts.linux import IFF_UP, NUD_PERMANENT
from banger.contracts.names import BRIDGE, Slot, mac_address
from root_worker.ops.tap import find_link
from root_worker.shell import run, tool

_DEADLINE_S = 20.0
_MEND = "Run `banger farm up`, or `systemctl restart banger-network`: they mend the guests' network."


def bridge_of(ip: IPRoute, slot: Slot) -> int:
    """Return the bridge's interface index; StageFailedError unless it is up and the slot's gateway."""
    link = find_link(ip, BRIDGE)
    if (
        link is None
        or link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") != "bridge"
        or link.get("IFLA_ADDRESS") != mac_address(slot.gateway)
        or not link["flags"] & IFF_UP
    ):
        raise StageFailedError(f"{BRIDGE} is no bridge that is up and {slot.gateway}'s", resolution=_MEND)
    return int(link["index"])


def apply_guest_filter(vm_id: str, slot: Slot, *, nat: bool) -> None:
    """Guard the VM's tap, which need not exist yet. StageFailedError, with nft's words, when refused."""
    try:
        _transact(guest_rules(vm_id, slot, nat=nat))
    except ToolFailedError as error:
        raise StageFailedError(
            f"the tap of VM {vm_id} cannot be guarded", details=str(error), resolution=_MEND
        ) from error


def remove_guest_filter(vm_id: str) -> None:
    """Remove the rules of the VM's tap; there or not."""
    _transact(guest_removal(vm_id))


def introduce_guest(ip: IPRoute, bridge: int, slot: Slot) -> None:
    """Tell the host the guest's MAC: nobody need ask, so none can lie, and a booting guest is found at once.

    Left to ARP, the host asks once a second, which is a second of slack when waiting for a guest.
    """
    ip.neigh("replace", ifindex=bridge, dst=str(slot.address), lladdr=slot.mac, state=NUD_PERMANENT)


def forget_guest(ip: IPRoute, slot: Slot) -> None:
    """Take the guest's MAC from the host's memory; forgives exactly its absence, or the bridge's."""
    for bridge in ip.link_lookup(ifname=BRIDGE):
        try:
            ip.neigh("del", ifindex=bridge, dst=str(slot.address), lladdr=slot.mac)
        except NetlinkError as error:
            if error.code != errno.ENOENT:
                raise


def _transact(lines: list[str]) -> None:
    run((tool("nft"), "-f", "-"), deadline_s=_DEADLINE_S, stdin=script(lines))
