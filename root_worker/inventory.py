"""Take stock of this host: root's registry, what lives, and what the kernel has that is named like ours."""

from __future__ import annotations

import time

from banger.contracts.inventory import Found, FoundVm, Inventory
from root_worker.host import RootHost
from root_worker.objects import LOOKS, nobodys_process
from root_worker.vmm import processes

_SHARE = 100  # looking for all but processes takes the hundredth part of a processor at most


class Stock:
    """Takes inventories, one after the other. Changes nothing."""

    def __init__(self, host: RootHost, incarnation: str) -> None:
        self._host = host
        self._incarnation = incarnation
        self._known: dict[str, int | None] = {}  # registered at any time since we began to look for objects
        self._objects: list[Found] = []
        self._due = 0.0

    def take(self) -> Inventory:
        """Return what there is; OSError or ValueError where registry or processes cannot be read."""
        if time.monotonic() >= self._due:
            self._look()
        at, living = time.time(), processes.living(self._host.policy)
        told = {"vm_id", "generation", "slot", "vmm", "accelerator"}
        vms = [
            FoundVm(**entry.model_dump(include=told), alive=bool(pids), kept=len(pids) > 1)
            for entry in self._host.registry.entries()
            for pids in [living.get(entry.slot or 0, [])]  # no slot is 0
        ]
        self._known |= {vm.vm_id: vm.slot for vm in vms}
        strange = living.keys() - self._known.values()
        nobodys = [nobodys_process(pid, slot, self._host) for slot in strange for pid in living[slot]]
        return self._looked.having(at, vms, [*nobodys, *self._objects], self._known)

    def _look(self) -> None:
        at, began = time.time(), time.thread_time()
        self._known = {entry.vm_id: entry.slot for entry in self._host.registry.entries()}
        self._objects, unreadable = [], []
        for kind, look in LOOKS.items():
            try:
                self._objects += look(self._host)
            except Exception as error:  # whatever it is, the reader must know that something was not seen
                unreadable.append(f"{kind}: {error or type(error).__name__}")
        told = {"incarnation": self._incarnation, "objects_at": at, "unreadable": tuple(unreadable)}
        self._looked = Inventory(at=at, vms=(), **told)
        self._due = time.monotonic() + _SHARE * (time.thread_time() - began)
