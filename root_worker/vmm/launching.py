"""What a VMM's driver is given for one start."""

from __future__ import annotations

from typing import NamedTuple

from banger.contracts.accelerator import Accelerator
from banger.contracts.names import Slot
from banger.contracts.qemu import Drive
from banger.contracts.requests import LaunchRequest
from root_worker.host import RootHost
from root_worker.vmm.jail import Jail


class Launching(NamedTuple):
    """One start of a VM: what was asked, where, and the drives that are opened for it."""

    request: LaunchRequest
    host: RootHost
    jail: Jail
    slot: Slot
    accelerator: Accelerator
    drives: tuple[Drive, ...]
