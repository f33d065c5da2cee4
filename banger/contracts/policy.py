"""What root allows on a host: one frozen model, and pure questions to it.

The policy is asked twice: at the door, before a message reaches the pool, and again by the stage
at the sink. Default deny: what is not named here is refused.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from banger.contracts.errors import PolicyError
from banger.contracts.names import FIRST_SLOT, HostName, HostPaths, Slot, slot
from banger.contracts.requests import GuestFile, LaunchRequest, PatchRootfsRequest, StageRequest
from banger.contracts.tickets import TicketKey
from banger.contracts.vmm import WantedVmm

# What root writes into a guest, and how many bytes of it at most.
GUEST_PATHS = {
    "/etc/resolv.conf": 4096,
    "/etc/hostname": 64,
    "/etc/hosts": 4096,
    "/etc/banger/network.conf": 4096,
    "/usr/local/lib/banger/network-up": 16 * 1024,
    "/etc/ssh/sshd_config.d/99-banger.conf": 4096,
}
EXECUTABLE_GUEST_PATHS = frozenset({"/usr/local/lib/banger/network-up"})


class Policy(BaseModel):
    """The host's limits. Sizes in MiB; uids of VMs are ``uid_base`` + slot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: HostName
    state_dir: Path
    run_dir: Path
    network: IPv4Network = IPv4Network("172.16.0.0/24")
    uid_base: Annotated[int, Field(ge=10_000, le=2_000_000_000)] = 300_000
    worker_user: str = "banger"
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    vmm: WantedVmm = "auto"
    firecracker: Path = Path("/usr/local/bin/firecracker")
    jailer: Path = Path("/usr/local/bin/jailer")
    max_vcpus: Annotated[int, Field(ge=1)] = 64
    max_memory_mib: Annotated[int, Field(ge=64)] = 1024 * 1024
    max_host_vcpus: Annotated[int, Field(ge=1)] = 4096
    max_host_memory_mib: Annotated[int, Field(ge=64)] = 1024 * 1024
    serial_log_mib: Annotated[int, Field(ge=1, le=1024)] = 8
    ticket_keys: tuple[TicketKey, ...] = ()

    @property
    def paths(self) -> HostPaths:
        """Where this host keeps things."""
        return HostPaths(self.state_dir, self.run_dir)

    def slot(self, number: int) -> Slot:
        """Derive the slot's address, MAC and uid; PolicyError when it is outside the network."""
        try:
            return slot(number, self.network, self.uid_base)
        except ValueError as error:
            raise PolicyError(str(error)) from error

    def slot_of(self, uid: int | None) -> int | None:
        """Return whose slot's uid this is, None where it is no slot's."""
        number = -1 if uid is None else uid - self.uid_base
        return number if FIRST_SLOT <= number <= self.network.num_addresses - 2 else None


def check(request: StageRequest, policy: Policy) -> None:
    """Raise PolicyError unless the policy allows the request. Pure; called at the door and at the sink."""
    number = getattr(request, "slot", None)
    if number is not None:
        policy.slot(number)
    if isinstance(request, PatchRootfsRequest):
        for file in request.files:
            _check_guest_file(file)
    if isinstance(request, LaunchRequest):
        if request.vcpus > policy.max_vcpus:
            raise PolicyError(f"{request.vcpus} vCPUs is above this host's limit of {policy.max_vcpus}")
        if request.memory_mib > policy.max_memory_mib:
            raise PolicyError(
                f"{request.memory_mib} MiB of memory is above this host's limit of {policy.max_memory_mib}"
            )


def _check_guest_file(file: GuestFile) -> None:
    limit = GUEST_PATHS.get(file.path)
    if limit is None:
        raise PolicyError(f"{file.path} is not a guest file that root writes")
    if (size := len(file.content.encode())) > limit:
        raise PolicyError(f"{file.path} would have {size} bytes; the limit is {limit}")
    if file.mode == 0o755 and file.path not in EXECUTABLE_GUEST_PATHS:
        raise PolicyError(f"{file.path} may not be executable")
