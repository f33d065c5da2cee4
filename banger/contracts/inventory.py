"""What root says that there is on its host: published with every heartbeat, so that nobody has to ask.

What root finds is sorted here: a registered VM's own, a *stray* (ours by name, of no VM in the registry), or
*foreign* (named as if it were ours, and not made by us). A stray can be removed by the ordinary stages, once
``admit`` has adopted its VM. What is foreign is left alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from banger.contracts.accelerator import Accelerator
from banger.contracts.dm_snapshot import Overlay
from banger.contracts.names import TAP_PREFIX, VmId, dm_name, is_id, link_alias, tap_name, unit_name
from banger.contracts.requests import Frozen
from banger.contracts.vmm import Vmm

INVENTORY_TTL_S = 15  # one that is there is fresh
MOST_STRANGE = 500  # strays that are told, and foreign objects
MOST_NAME = 100

# No kind for a guest's MAC in the host's memory: the tap stage makes it last and takes it away first, so that
# wherever it is, the filter is too.
Kind = Literal["process", "tap", "filter", "dm", "loop", "jail", "cgroup", "unit"]

_OUR_LINKS = link_alias("")


def inventory_key(host: str) -> str:
    """Return the key of a host's inventory."""
    return f"banger:inventory:{host}"


class Found(Frozen):
    """An object that is ours by name. ``vm_id``, ``slot`` and ``overlay`` are None where it does not tell.

    A process is named by its pid, a loop by its device, a filter like its tap: by 11 of the id's 12 digits.
    Any id that begins with them has that filter, and removes it, where no tap tells which it is.
    """

    kind: Kind
    name: str
    vm_id: VmId | None = None
    slot: int | None = None
    overlay: Overlay | None = None


class FoundVm(Frozen):
    """A VM in root's registry. ``alive``: a process of its uid lives; ``kept``: a second one does,
    as its VMM's keeper is one; ``has``: kinds of which it has any.

    ``overlay`` is how full its system disk is, None where that is no snapshot, or not attached. ``vmm`` and
    ``accelerator`` are of its last launch that was not undone.
    """

    vm_id: VmId
    generation: int
    slot: int | None
    alive: bool
    kept: bool = True
    has: tuple[Kind, ...] = ()
    overlay: Overlay | None = None
    vmm: Vmm | None = None
    accelerator: Accelerator | None = None


class Inventory(Frozen):
    """All VMs that root knows of, and all that is ours by name (times in epoch seconds of that host).

    At ``at`` root began to look for processes, at ``objects_at`` for all other kinds. Where something is
    ``unreadable`` (what, and why), what is not told may be there all the same: remove nothing then.
    ``incarnation`` is the process that says so.
    """

    at: float
    incarnation: str
    vms: tuple[FoundVm, ...]
    objects_at: float = 0.0
    strays: tuple[Found, ...] = ()
    foreign: tuple[Found, ...] = ()
    unreadable: tuple[str, ...] = ()

    def having(
        self, at: float, vms: Iterable[FoundVm], found: Iterable[Found], known: Mapping[str, int | None]
    ) -> Inventory:
        """Return one of ``at`` with the registry's VMs and what was found; ``known`` may have more VMs."""
        there = tuple(found)
        has, strays, foreign = sort_out(there, known)
        overlays = {one.vm_id: one.overlay for one in there if one.overlay}
        cut = [
            f"{what}: there are {len(some)}, of which {MOST_STRANGE} are told"
            for what, some in (("strays", strays), ("foreign", foreign))
            if len(some) > MOST_STRANGE
        ]
        owners = [
            vm.model_copy(
                update={
                    "has": _kinds(has[vm.vm_id], alive=vm.alive),
                    "overlay": overlays.get(vm.vm_id),
                }
            )
            for vm in vms
        ]
        told = {"strays": tuple(strays[:MOST_STRANGE]), "foreign": tuple(foreign[:MOST_STRANGE])}
        update = {"at": at, "vms": tuple(owners), "unreadable": (*self.unreadable, *cut), **told}
        return self.model_copy(update=update)


class Sorted(NamedTuple):
    """What was found: the kinds that each VM of the registry has, and the rest."""

    has: dict[str, set[Kind]]
    strays: list[Found]
    foreign: list[Found]


def found_id(kind: Kind, name: str, said: str) -> Found:
    """Return an object whose name, or what it belongs to, says a VM's id; foreign where that is none."""
    return Found(kind=kind, name=name[:MOST_NAME], vm_id=said if is_id(said) else None)


def found_tap(name: str, alias: str | None, slot: int | None) -> Found:
    """Return a tap: its alias, which root alone sets, says whose it is.

    One that is no slot's belongs to another farm of this machine, whose uids are others.
    """
    said = (alias or "").removeprefix(_OUR_LINKS)
    ours = slot is not None and is_id(said) and (name, alias) == (tap_name(said), link_alias(said))
    return Found(kind="tap", name=name, vm_id=said if ours else None, slot=slot)


def found_dm(name: str, disks: Collection[Path], vms: Path, overlay: Overlay | None) -> Found:
    """Return a device whose name says a VM's id; foreign where all that it is made of is another farm's.

    One that a kill left without a table is made of nothing yet.
    """
    theirs = bool(disks) and not any(file.is_relative_to(vms) for file in disks)
    found = found_id("dm", name, "" if theirs else name.removeprefix(dm_name("")))
    return found.model_copy(update={"overlay": overlay})


def found_loop(device: str, file: str, vms: Path, *, ours: bool) -> Iterator[Found]:
    """Yield a loop device if it is over a VM's file; foreign where it is not one of those that we make."""
    if (path := Path(file)).is_relative_to(vms) and path != vms:
        yield found_id("loop", device, path.relative_to(vms).parts[0] if ours else "")


def vm_told(said: Iterable[str], parent: str) -> str | None:
    """Return the VM that a process is of, by what its cgroups say, or else its keeper's argument."""
    unit = re.escape(unit_name("*")).replace(r"\*", "([0-9a-f]{12})")
    for text in said:
        told = re.search(rf"/{unit}\n|(?:/{re.escape(parent)}/|\0{_OUR_LINKS})([0-9a-f]{{12}})[\0\n]", text)
        if told:
            return told[1] or told[2]
    return None


def sort_out(found: Iterable[Found], known: Mapping[str, int | None]) -> Sorted:
    """Say whose each object is, where ``known`` are the registry's VMs and their slots. Pure.

    A process that is no registered VM's is ours where it says of which VM it is, and this farm has that one's
    jail: our uids may be a container's too, or another farm's.
    """
    whole = {(one.kind, one.name): one for one in found}
    by_tap = {tap_name(vm_id): vm_id for vm_id in known}
    by_slot = {slot: vm_id for vm_id, slot in known.items() if slot is not None}
    told = {one.name: one.vm_id for one in whole.values() if one.kind == "tap"}
    jailed = {one.vm_id for one in whole.values() if one.kind == "jail"} - known.keys()
    result = Sorted(defaultdict(set), [], [])
    for one in whole.values():
        vm_id = one.vm_id
        if one.kind == "process":
            owner = by_slot.get(one.slot) if one.slot is not None else None
            vm_id = vm_id if vm_id in jailed else None
        elif one.kind == "filter":
            owner, vm_id = by_tap.get(one.name), told.get(one.name)
        else:
            owner = vm_id if vm_id in known else None
        if owner is not None:
            result.has[owner].add(one.kind)
        elif vm_id or (one.kind == "filter" and _is_filter(one.name)):
            result.strays.append(one.model_copy(update={"vm_id": vm_id}))
        else:
            result.foreign.append(one)
    return result


def _kinds(kinds: set[Kind], *, alive: bool) -> tuple[Kind, ...]:
    return tuple(sorted({*kinds, "process"} if alive else kinds))


def _is_filter(name: str) -> bool:
    return is_id(f"{name.removeprefix(TAP_PREFIX)}0")
