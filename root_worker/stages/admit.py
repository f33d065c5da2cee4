"""Stage ``admit``: the VM enters root's registry, with its slot, before anything of it exists here."""

from __future__ import annotations

from banger.contracts.registry import Entry
from banger.contracts.requests import AdmitRequest, UndoRequest
from root_worker.host import RootHost
from root_worker.ops import system_disk
from root_worker.sink import admitted, fenced
from root_worker.vmm import processes


@admitted
def do(request: AdmitRequest, host: RootHost, entry: Entry) -> None:
    """Enter the VM, or a later start of it: that is done by now."""


@fenced
def undo(request: UndoRequest, host: RootHost, entry: Entry) -> None:
    """Forget the VM. Refused while its VMM lives, or its disk is attached: nobody could remove that then."""
    processes.require_none(host, entry)
    system_disk.detach(host, entry)
    host.registry.forget(request.vm_id)
