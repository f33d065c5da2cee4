"""What root says that there is on its host: published with every heartbeat, so that nobody has to ask."""

from __future__ import annotations

from banger.contracts.names import VmId
from banger.contracts.requests import Frozen

INVENTORY_TTL_S = 15  # one that is there is fresh


def inventory_key(host: str) -> str:
    """Return the key of a host's inventory."""
    return f"banger:inventory:{host}"


class FoundVm(Frozen):
    """A VM in root's registry. ``alive``: a process of its uid lives."""

    vm_id: VmId
    generation: int
    slot: int | None
    alive: bool


class Inventory(Frozen):
    """All VMs that root knows of, at one moment (epoch seconds of that host), and which process says so."""

    at: float
    incarnation: str
    vms: tuple[FoundVm, ...]
