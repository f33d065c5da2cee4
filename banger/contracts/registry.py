"""What root remembers of each VM, and what it may come to remember next: pure; ``root_worker`` keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from banger.contracts.errors import PolicyError, StageFailedError, StaleGenerationError
from banger.contracts.vmm import Vmm


class Entry(BaseModel):
    """What root remembers of one VM. ``launched`` is the generation that its VMM was last started for.

    ``image`` and ``base`` are what a snapshot rests on: worthless over anything else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vm_id: str
    generation: int
    slot: int | None = None
    disk_backend: Literal["file", "dm-snapshot"] | None = None
    image: str | None = None
    base: str | None = None  # the image's size and time, when its first snapshot was attached
    launched: int | None = None
    vmm: Vmm | None = None  # that was launched, as all that follows
    vcpus: int = 0
    memory_mib: int = 0
    accelerator: Literal["kvm", "tcg"] | None = None
    limits: tuple[str, ...] = ()

    def advanced(self, generation: int) -> Entry:
        """Return the entry with this generation; StaleGenerationError where a later one has been here."""
        if generation < self.generation:
            raise StaleGenerationError(
                f"generation {generation} of VM {self.vm_id} is over: root has seen {self.generation}"
            )
        return self.model_copy(update={"generation": generation})

    def in_slot(self, slot: int, others: Iterable[Entry]) -> Entry:
        """Return the entry with this slot; PolicyError when it has another, or one of ``others`` has it."""
        if self.slot not in (None, slot):
            raise PolicyError(f"VM {self.vm_id} has slot {self.slot}, not {slot}")
        for other in others:
            if other.slot == slot:
                raise PolicyError(
                    f"slot {slot} belongs to VM {other.vm_id}",
                    details=f"root knows it from {other.vm_id}.json in its registry",
                    resolution="Delete that VM; if the farm does not know it, kill it and remove the file.",
                )
        return self.model_copy(update={"slot": slot})

    def resting_on(self, image: str, base: str, others: Iterable[Entry]) -> Entry:
        """Return the entry of a snapshot over this image, whose file is ``base`` now.

        PolicyError where it rests on another image, StageFailedError where the file was another one when its
        snapshot, or one of ``others``, was attached first.
        """
        if self.image not in (None, image):
            raise PolicyError(f"VM {self.vm_id} rests on image {self.image}, not {image}")
        for known in (self, *others):
            if known.image == image and known.base != base:
                raise StageFailedError(
                    f"The base of image {image} has changed since VM {known.vm_id} was made of it",
                    details=f"then {known.base}, now {base} (bytes, mtime in ns); snapshots over it are torn",
                    resolution="Put the image's files back as they were, with their times; or delete its VMs"
                    " and the image, and build it again.",
                )
        return self.model_copy(update={"image": image, "base": base})

    def require_room(self, others: Iterable[Entry], max_vcpus: int, max_memory_mib: int) -> None:
        """Raise PolicyError where it and the ``others`` have more vCPUs or MiB together than that."""
        vms = [self, *others]
        vcpus, memory_mib = sum(vm.vcpus for vm in vms), sum(vm.memory_mib for vm in vms)
        if vcpus > max_vcpus or memory_mib > max_memory_mib:
            raise PolicyError(
                f"this host's VMs would have {vcpus} vCPUs and {memory_mib} MiB of memory",
                details=f"root's policy allows {max_vcpus} and {max_memory_mib} MiB",
            )
