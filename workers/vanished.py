"""Notice that a VMM is gone which nobody has stopped: its guest powered off, or the host was rebooted."""

from __future__ import annotations

from banger.contracts.inventory import Inventory
from banger.contracts.states import State
from banger.records import Record

_APART_S = 5.0  # of root's clock; a VMM that is being started is not there yet for a moment


class Vanished:
    """Remembers since when running VMs are not found alive."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}

    def of(self, records: list[Record], inventory: Inventory) -> list[Record]:
        """Return the running VMs that were dead in two inventories, some time apart."""
        alive = {(vm.vm_id, vm.generation) for vm in inventory.vms if vm.alive}
        dead = {
            (record.id, record.generation): record
            for record in records
            if record.state is State.RUNNING
            and record.job is None
            and (record.id, record.generation) not in alive
        }
        self._since = {key: self._since.get(key, inventory.at) for key in dead}
        return [dead[key] for key, since in self._since.items() if inventory.at - since >= _APART_S]
