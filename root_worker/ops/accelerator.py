"""KVM or emulation for a VM: what the policy says, else what a probe boot has proven (``banger farm up``)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from banger.contracts import accelerator
from banger.contracts.accelerator import Accelerator, groups_needed, proven
from banger.contracts.boot import boot_id
from root_worker.host import RootHost


class Choice(NamedTuple):
    """The accelerator, and the groups that a VMM needs for it."""

    accelerator: Accelerator
    groups: tuple[int, ...] = ()


def choose_accelerator(host: RootHost) -> Choice:
    """Return what this host's VMMs run with: KVM only where it is wanted or proven, and can be opened."""
    wanted, device = host.policy.accelerator, accelerator.KVM
    groups = groups_needed(device.stat()) if device.exists() else None
    if wanted == "kvm" or (wanted == "auto" and groups is not None and _proven(host.paths.accelerator)):
        return Choice("kvm", groups or ())
    return Choice("tcg")


def _proven(file: Path) -> bool:
    return file.exists() and proven(file.read_bytes(), boot_id())
