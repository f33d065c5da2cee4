"""Take stock of this host's VMs: root's registry, and what lives."""

from __future__ import annotations

import time

from banger.contracts.inventory import FoundVm, Inventory
from root_worker.host import RootHost
from root_worker.vmm.processes import live_uids


def take_inventory(host: RootHost, incarnation: str) -> Inventory:
    """Return what there is. Changes nothing."""
    alive, vms = live_uids(), []
    for entry in host.registry.entries():
        known = entry.model_dump(include={"vm_id", "generation", "slot"})
        vms.append(FoundVm(**known, alive=host.uid(entry) in alive))
    return Inventory(at=time.time(), incarnation=incarnation, vms=tuple(vms))
