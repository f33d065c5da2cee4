"""Stage ``attach_system_disk``: the system disk of base image and overlay, owned by the VM's uid."""

from __future__ import annotations

from typing import Any

from banger.contracts.requests import AttachSystemDiskRequest, UndoRequest
from root_worker import policy
from root_worker.host import RootHost
from root_worker.ops import system_disk
from root_worker.vmm import processes


def do(request: AttachSystemDiskRequest, host: RootHost) -> dict[str, Any]:
    """Attach the disk; a second time keeps what the guest has written."""
    policy.check(request, host.policy)
    host.registry.admit(request.vm_id, request.generation, request.slot)
    uid = host.policy.slot(request.slot).uid
    return {"disk_backend": system_disk.attach(host, request.vm_id, request.image, uid)}


def undo(request: UndoRequest, host: RootHost) -> None:
    """Detach the disk of a VM that root knows; the overlay file stays. Refused while the VMM lives."""
    policy.check(request, host.policy)
    if entry := host.registry.fence(request.vm_id, request.generation):
        processes.require_none(host, entry)
        system_disk.detach(host, entry)
