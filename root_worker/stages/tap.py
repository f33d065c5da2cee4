"""Stage ``tap``: the VM's tap on the bridge, owned by its uid, isolated and filtered; NAT where asked."""

from __future__ import annotations

from typing import Any

from pyroute2 import IPRoute

from banger.contracts.names import tap_name
from banger.contracts.requests import TapRequest, UndoRequest
from root_worker import policy
from root_worker.host import RootHost
from root_worker.ops.bridge import ensure_bridge, forget_guest, introduce_guest
from root_worker.ops.guest_filter import apply_guest_filter, remove_guest_filter
from root_worker.ops.shared_network import clear_when_unused, in_use
from root_worker.ops.sysctl import enable_forwarding
from root_worker.ops.tap import create_tap, find_tap, remove_tap, tap_is_strangers


def do(request: TapRequest, host: RootHost) -> dict[str, Any]:
    """Make the tap, its rules first: there is no moment in which an unfiltered guest could speak."""
    policy.check(request, host.policy)
    host.registry.admit(request.vm_id, request.generation, request.slot)
    slot = host.policy.slot(request.slot)
    with IPRoute() as ip, in_use(host):
        find_tap(ip, request.vm_id)  # refuses a stranger's, before its rules are replaced
        apply_guest_filter(request.vm_id, slot, nat=request.nat)
        bridge = ensure_bridge(ip, slot.gateway, slot.prefix)
        create_tap(ip, request.vm_id, slot, bridge)
        introduce_guest(ip, bridge, slot)
    if request.nat:
        enable_forwarding()
    return {"tap": tap_name(request.vm_id), "address": str(slot.address), "mac": slot.mac}


def undo(request: UndoRequest, host: RootHost) -> None:
    """Remove the tap, then its rules, from the VM's id alone; with the last tap, what all guests share.

    The slot is the one that root remembers.
    """
    policy.check(request, host.policy)
    entry = host.registry.admit(request.vm_id, request.generation)
    with IPRoute() as ip:
        if tap_is_strangers(ip, request.vm_id):
            return  # ours is not there; neither this tap nor its rules were ever this VM's
        with in_use(host):
            if entry.slot is not None:
                forget_guest(ip, host.policy.slot(entry.slot))
            remove_tap(ip, request.vm_id)
            remove_guest_filter(request.vm_id)
        clear_when_unused(host, ip)
