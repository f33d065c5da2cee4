"""Stage ``attach_system_disk``: the system disk of base image and overlay, owned by the VM's uid."""

from __future__ import annotations

from typing import Any

from banger.contracts.registry import Entry
from banger.contracts.requests import AttachSystemDiskRequest, UndoRequest
from root_worker.host import RootHost
from root_worker.ops import system_disk
from root_worker.sink import admitted, fenced
from root_worker.vmm import processes


@admitted
def do(request: AttachSystemDiskRequest, host: RootHost, entry: Entry) -> dict[str, Any]:
    """Attach the disk; a second time keeps what the guest has written."""
    uid = host.policy.slot(request.slot).uid
    backend = system_disk.attach(host, entry.vm_id, request.image, uid, request.overlay_mib)
    return {"disk_backend": backend}


@fenced
def undo(request: UndoRequest, host: RootHost, entry: Entry) -> None:
    """Detach the disk; the overlay file stays. Refused while the VMM lives."""
    processes.require_none(host, entry)
    system_disk.detach(host, entry)
