"""Tell the farm what this host has, when Redis has forgotten it: before the host joins again.

A VM that is on the host and not in the records was lost with them: nothing else removes a record before the
directory is gone. Its state is what root finds, not what was intended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from banger.contracts.errors import StageFailedError
from banger.contracts.inventory import FoundVm
from banger.contracts.names import slot
from banger.contracts.spec import VmSpec
from banger.contracts.states import State
from banger.pipelines import DELETE
from banger.records import Record
from workers import intents

if TYPE_CHECKING:
    from workers.farmhand import Farmhand
    from workers.host import WorkHost

_UNKNOWN = "0" * 12


def restore(farmhand: Farmhand) -> bool:
    """Restore the records that are missing; False where root has not said yet what there is."""
    host = farmhand.host
    inventory = farmhand.records.inventory(host.name)
    if inventory is None:
        return False
    found = {vm.vm_id: vm for vm in inventory.vms}
    intended = {record.id: record for record in intents.all_of_them(host.paths) if record.host == host.name}
    for vm_id in sorted(found.keys() | intended.keys()):
        if farmhand.records.get(vm_id) is not None:
            continue
        record = intended.get(vm_id) or stray(found[vm_id], host)
        state, unwanted = now(record, alive=vm_id in found and found[vm_id].alive)
        error = None
        if state is State.ERROR:
            error = StageFailedError("it was being made or removed when the farm lost its memory").to_wire()
        farmhand.records.restore(record.model_copy(update={"state": state, "error": error, "job": None}))
        if unwanted:
            farmhand.ring_begin(vm_id, DELETE.name)
    return True


def now(record: Record, *, alive: bool) -> tuple[State, bool]:
    """Return a forgotten VM's state, and whether it is to be deleted. Pure.

    What was half made or half removed is removed, unless it got as far as to run; so is what a command had
    for itself, as nobody waits for that any more.
    """
    if record.state is State.DELETING or record.spec.ephemeral:
        return State.ERROR, True
    if alive:
        return State.RUNNING, False
    if record.state is State.CREATING:
        return State.ERROR, True
    return (State.ERROR if record.state is State.ERROR else State.STOPPED), False


def stray(found: FoundVm, host: WorkHost) -> Record:
    """Return a record for what root alone knows of: enough of one to remove it by."""
    address = str(slot(found.slot, host.network, host.uid_base).address) if found.slot else None
    return Record(
        id=found.vm_id,
        name=f"lost-{found.vm_id}",
        state=State.DELETING,
        generation=found.generation,
        host=host.name,
        slot=found.slot,
        address=address,
        image=_UNKNOWN,
        kernel=_UNKNOWN,
        spec=VmSpec(name=f"lost-{found.vm_id}", image="unknown"),
        created_at=0.0,
    )
