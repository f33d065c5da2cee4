"""The second time that the policy is asked, right before an effect, and root's registry with it.

Every ``do`` of a stage is ``admitted``, every ``undo`` ``fenced``; both are given the VM's entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from banger.contracts.policy import check
from banger.contracts.registry import Entry
from banger.contracts.requests import StageRequest
from root_worker.host import RootHost

R = TypeVar("R", bound=StageRequest)
Answer = dict[str, Any] | None


def admitted(do: Callable[[R, RootHost, Entry], Answer]) -> Callable[[R, RootHost], Answer]:
    """Let a do act for a VM once it is in root's registry, with the slot that the request names."""

    def run(request: R, host: RootHost) -> Answer:
        check(request, host.policy)
        slot: int = request.slot  # type: ignore[attr-defined]  # every do of root's names one
        return do(request, host, host.registry.admit(request.vm_id, request.generation, slot))

    return run


def fenced(undo: Callable[[R, RootHost, Entry], Answer]) -> Callable[[R, RootHost], Answer]:
    """Let an undo act for a VM that root knows; what it does not is nobody's to remove, whatever its name."""

    def run(request: R, host: RootHost) -> Answer:
        check(request, host.policy)
        entry = host.registry.fence(request.vm_id, request.generation)
        return undo(request, host, entry) if entry else None

    return run
