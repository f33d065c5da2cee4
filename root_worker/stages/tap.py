"""Stage ``tap``: the VM's tap on the bridge, owned by its uid, isolated and filtered; NAT where asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from banger.contracts.errors import PolicyError
from banger.contracts.names import tap_name
from banger.contracts.registry import Entry
from banger.contracts.requests import TapRequest, UndoRequest
from root_worker.host import RootHost
from root_worker.ops import guest_network
from root_worker.ops.tap import create_tap, find_tap, remove_tap
from root_worker.sink import admitted, fenced


@admitted
def do(request: TapRequest, host: RootHost, entry: Entry) -> dict[str, Any]:
    """Make the tap, its rules first: there is no moment in which an unfiltered guest could speak."""
    slot = host.policy.slot(request.slot)
    with IPRoute() as ip:
        find_tap(ip, request.vm_id)  # refuses a stranger's, before its rules are replaced
        bridge = guest_network.bridge_of(ip, slot)
        guest_network.apply_guest_filter(request.vm_id, slot, nat=request.nat)
        create_tap(ip, request.vm_id, slot, bridge)
        guest_network.introduce_guest(ip, bridge, slot)
    if request.nat:  # it stays on: other guests, or other programs, rely on it
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return {"tap": tap_name(request.vm_id), "address": str(slot.address), "mac": slot.mac}


@fenced
def undo(request: UndoRequest, host: RootHost, entry: Entry) -> None:
    """Remove the tap, then its rules, from the VM's id alone; the slot is the one that root remembers."""
    if entry.slot is None:
        return  # root never made this VM a tap
    with IPRoute() as ip:
        try:
            find_tap(ip, request.vm_id)
        except PolicyError:
            return  # another's tap has the name: neither it nor its rules were ever this VM's
        guest_network.forget_guest(ip, host.policy.slot(entry.slot))
        remove_tap(ip, request.vm_id)
        guest_network.remove_guest_filter(request.vm_id)
