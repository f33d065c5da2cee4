"""Stage ``admit``: the VM enters root's registry, with its slot, before anything of it exists here."""

from __future__ import annotations

from banger.contracts.requests import AdmitRequest, UndoRequest
from root_worker import policy
from root_worker.host import RootHost
from root_worker.vmm import processes


def do(request: AdmitRequest, host: RootHost) -> None:
    """Enter the VM, or a later start of it."""
    policy.check(request, host.policy)
    host.registry.admit(request.vm_id, request.generation, request.slot)


def undo(request: UndoRequest, host: RootHost) -> None:
    """Forget the VM. Refused while its VMM lives: its slot must not be another's then."""
    policy.check(request, host.policy)
    entry = host.registry.admit(request.vm_id, request.generation)
    processes.require_none(host, entry)
    host.registry.forget(request.vm_id)
