"""What the guest gets: files and mounts, decided here by pure functions, written by root."""

from __future__ import annotations

from collections.abc import Sequence

from banger.contracts.names import Slot
from banger.contracts.requests import GuestFile, Mount
from banger.guest.capabilities import identity, network, resolver, ssh, work_disk


def guest_files(name: str, slot: Slot, servers: Sequence[str]) -> tuple[GuestFile, ...]:
    """Return the files that every start writes into the system disk of the VM ``name``.

    ``servers`` are addresses of name servers, asked in this order. The merged /etc/fstab is not among
    them: it depends on what the disk holds, so root makes it from the disk's own and ``guest_mounts``.
    """
    capabilities = (identity(name), resolver(servers), network(slot), ssh())
    return tuple(file for capability in capabilities for file in capability.files)


def guest_mounts() -> tuple[Mount, ...]:
    """Return the mounts that the VM's capabilities add to the guest's /etc/fstab."""
    return work_disk().mounts
