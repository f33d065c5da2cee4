"""Take stock of this host's VMs: root's registry, and what lives."""

from __future__ import annotations

import time

from banger.contracts.inventory import FoundVm, Inventory
from root_worker.host import RootHost
from root_worker.vmm.processes import live_uids


def take_inventory(host: RootHost) -> Inventory:
    """Return what there is. Changes nothing."""
    entries, alive = host.registry.entries(), live_uids()
    return Inventory(
        at=time.time(),
        vms=tuple(
            FoundVm(
                vm_id=entry.vm_id,
                generation=entry.generation,
                slot=entry.slot,
                alive=host.uid(entry) in alive,
            )
            for entry in entries
        ),
    )
