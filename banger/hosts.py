"""What a host tells the farm about itself, every few seconds."""

from __future__ import annotations

from ipaddress import IPv4Network

from pydantic import BaseModel, ConfigDict

from banger.contracts.names import FIRST_SLOT

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
    """A host's capacity and images. ``images`` has the newest of a name first. Sizes in MiB.

    ``commands``: how many commands of batches' jobs its worker can look after at once.
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
    alive: bool = False

    @property
    def last_slot(self) -> int:
        """The largest slot number; the smallest is FIRST_SLOT."""
        return self.network.num_addresses - 2

    @property
    def slots(self) -> int:
        """How many VMs the network holds."""
        return self.last_slot - FIRST_SLOT + 1

    def image(self, ref: str) -> HostImage | None:
        """Return the image of this name or id, or None."""
        return next((image for image in self.images if ref in (image.id, image.name)), None)
