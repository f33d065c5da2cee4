"""Tell the farm what this host has, when Redis has forgotten it: before the host joins again.

A VM that is on the host and not in the records was lost with them: nothing else removes a record before the
directory is gone. Its state is what root finds, not what was intended. What nobody knows is deleted, but for
what has an intent file that tells us nothing: that was somebody's VM.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from banger.contracts.errors import BangerError, CapacityError, StageFailedError
from banger.contracts.inventory import FoundVm
from banger.contracts.names import FIRST_SLOT, new_id, slot
from banger.contracts.spec import VmSpec
from banger.contracts.states import State
from banger.pipelines import DELETE
from banger.records import UNKNOWN, Record
from workers.observation import observe

if TYPE_CHECKING:
    from workers.decisions import Facts
    from workers.farmhand import Farmhand
    from workers.host import WorkHost

log = logging.getLogger("banger.reconcile")

CHANGED = "it has changed meanwhile"
_UNCLEAR = StageFailedError(
    "the farm has forgotten it, and its intent file cannot be read, or is another host's",
    details="a younger version of banger has written it, or this host was called otherwise",
    resolution="Everything of it is left alone: mend that and delete no file, or `banger vm delete` it.",
)


def restore(farmhand: Farmhand) -> bool:
    """Restore all records that are missing; False where root has not said yet what there is.

    One that cannot be, for now, is reconcile's to see to: the others, and the host, must not wait for it.
    """
    facts = observe(farmhand)
    if facts.inventory is None:
        return False
    known = {*facts.records, *facts.others}
    for vm_id in sorted({*facts.intents, *(vm.vm_id for vm in facts.inventory.vms)} - known):
        try:
            restore_vm(farmhand, vm_id, facts)
        except BangerError as error:
            log.warning("VM %s: %s", vm_id, error.brief)
    return True


def restore_vm(farmhand: Farmhand, vm_id: str, facts: Facts) -> str:
    """Write a VM's record as its host knows it, over the one that is there; return what became of it."""
    found = facts.seen(vm_id)
    older = facts.records.get(vm_id)
    record = facts.intents.get(vm_id) or older or stray(vm_id, found, farmhand.host)
    state, unwanted = now(record, alive=found is not None and found.alive)
    error = record.error if state is State.ERROR else None
    if record.image == UNKNOWN and vm_id in facts.unclear:
        unwanted, error = False, _UNCLEAR.to_wire()
    elif state is State.ERROR and error is None:
        error = StageFailedError("it was being made or removed when the farm lost its memory").to_wire()
    generation = max(record.generation, found.generation if found else 0)
    update = {"state": state, "error": error, "job": None, "generation": generation}
    restored = farmhand.records.restore(record.model_copy(update=update), over=older.rev if older else None)
    if restored is None:
        return CHANGED
    if unwanted:
        farmhand.ring_begin(vm_id, DELETE.name, rev=restored.rev)
        return "to be deleted"
    return f"restored, {state}"


def adopt(farmhand: Farmhand, vm_id: str, facts: Facts) -> Record | None:
    """Give what nobody knows a record, with the slot whose uid it has or a free one, and return it.

    None where it has one by now; CapacityError where this host has no slot to remove it by.
    """
    host = farmhand.host
    told = next((one.slot for one in facts.strays(vm_id) if one.slot is not None), None)
    taken = {record.slot for record in facts.records.values()} | facts.slots
    numbers = range(FIRST_SLOT, host.network.num_addresses - 1)
    free = next((number for number in numbers if number not in taken), None)
    if free is None:
        raise CapacityError(
            "this host has no free slot", details="what nobody knows is left until it has one"
        )
    chosen = told if told is not None and told not in taken else free
    found = FoundVm(vm_id=vm_id or new_id(), generation=1, slot=chosen, alive=False)
    record = stray(found.vm_id, found, host)
    return farmhand.records.restore(record.model_copy(update={"state": State.ERROR}))


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


def stray(vm_id: str, found: FoundVm | None, host: WorkHost) -> Record:
    """Return a record for what has no record: enough of one to remove it by."""
    number = found.slot if found else None
    return Record(
        id=vm_id,
        name=f"lost-{vm_id}",
        state=State.DELETING,
        generation=found.generation if found else 1,
        host=host.name,
        slot=number,
        address=str(slot(number, host.network, host.uid_base).address) if number else None,
        image=UNKNOWN,
        kernel=UNKNOWN,
        spec=VmSpec(name=f"lost-{vm_id}", image="unknown"),
        created_at=0.0,
    )
