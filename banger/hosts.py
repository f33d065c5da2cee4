"""What a host tells the farm about itself, every few seconds."""

from __future__ import annotations

from ipaddress import IPv4Network

from pydantic import BaseModel, ConfigDict

from banger.contracts import vmm
from banger.contracts.accelerator import Accelerator
from banger.contracts.errors import StageFailedError
from banger.contracts.names import FIRST_SLOT
from banger.contracts.vmm import Vmm, WantedVmm

VCPUS_A_CORE = 64  # guests mostly wait: a hundred of them, booting or at a command, fit on two cores


class HostImage(BaseModel):
    """An image that a host has. Sizes in MiB; ``seed_mib`` is 0 where there is no work seed."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    kernel: str
    rootfs_mib: int
    seed_mib: int = 0


class HostInfo(BaseModel):
    """A host's capacity, images and VMMs. ``images`` has the newest of a name first. Sizes in MiB.

    ``commands``: how many commands of batches' jobs its worker can look after at once. ``vmm``: what root's
    policy says, for VMs that leave it to their host. ``vmm_obstacles``: why each VMM can run no VM there,
    empty where it can. What an older worker does not tell is None, or empty.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    network: IPv4Network
    uid_base: int
    vcpus: int
    memory_mib: int
    disk_free_mib: int
    commands: int = 1
    images: tuple[HostImage, ...] = ()
    vmm: WantedVmm | None = None
    vmm_obstacles: dict[Vmm, str] | None = None
    accelerator: Accelerator | None = None
    disk_backend: str = ""
    alive: bool = False

    @property
    def last_slot(self) -> int:
        """The largest slot number; the smallest is FIRST_SLOT."""
        return self.network.num_addresses - 2

    @property
    def slots(self) -> int:
        """How many VMs the network holds."""
        return self.last_slot - FIRST_SLOT + 1

    @property
    def vmms(self) -> tuple[Vmm, ...]:
        """The VMMs that can run VMs there; none where the host does not tell."""
        return tuple(name for name, obstacle in (self.vmm_obstacles or {}).items() if not obstacle)

    @property
    def default_vmm(self) -> Vmm | None:
        """What runs a VM there for which no VMM is asked; None where none can, or the host does not tell."""
        try:
            return self.runs_by()
        except StageFailedError:
            return None

    def image(self, ref: str) -> HostImage | None:
        """Return the image of this name or id, or None."""
        return next((image for image in self.images if ref in (image.id, image.name)), None)

    def runs_by(
        self, wanted: WantedVmm = "auto", vcpus: int = 1, *, limits_network: bool = False
    ) -> Vmm | None:
        """Return what root will run a VM by, as far as the host tells; None where it does not.

        StageFailedError, as of its launch, where that cannot be.
        """
        if self.vmm_obstacles is None or self.vmm is None:
            return None
        wanted, obstacle = self.vmm if wanted == "auto" else wanted, ""
        if wanted != "qemu":
            obstacle = vmm.obstacle("kvm", vcpus, self.vmm_obstacles.get("firecracker", ""))
        found = vmm.choose(wanted, obstacle, limits_network=limits_network)
        if found == "qemu" and (obstacle := self.vmm_obstacles.get("qemu", "")):
            raise StageFailedError(f"QEMU cannot run this VM: {obstacle}")
        return found
