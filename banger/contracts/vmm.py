"""Which program runs a VM: Firecracker where it can, QEMU everywhere. Pure; root asks it at every launch."""

from __future__ import annotations

import re
from typing import Literal

from banger.contracts.accelerator import Accelerator
from banger.contracts.errors import StageFailedError

Vmm = Literal["qemu", "firecracker"]
WantedVmm = Literal["auto", "qemu", "firecracker"]

OLDEST_FIRECRACKER = (1, 16)  # whose API our requests are held against
MAX_FIRECRACKER_VCPUS = 32  # its MachineConfiguration's maximum

_VERSION = re.compile(r"^(?:Firecracker|Jailer) v(\S+)$", re.MULTILINE)


def version(said: bytes) -> str | None:
    """Return the version that ``firecracker --version`` or ``jailer --version`` has printed."""
    return next(iter(_VERSION.findall(said.decode(errors="replace"))), None)


def pair_problem(name: str, firecracker: str | None, jailer: str | None) -> str:
    """Return why two programs of these versions are no pair, empty where they are one.

    ``name``: of Firecracker's file, without symlinks, as the jailer sees it.
    """
    if "firecracker" not in name:
        return f"the jailer runs no file called {name}: 'firecracker' has to be in the name"
    if firecracker is None or jailer is None:
        return "it is no Firecracker or no jailer that stands there: it does not say its version"
    if firecracker != jailer:
        return f"Firecracker is of version {firecracker}, its jailer of {jailer}"
    number = re.match(r"(\d+)\.(\d+)", firecracker)
    if number is None or tuple(map(int, number.groups())) < OLDEST_FIRECRACKER:
        return f"Firecracker is of version {firecracker}; {'.'.join(map(str, OLDEST_FIRECRACKER))} is needed"
    return ""


def obstacle(accelerator: Accelerator, vcpus: int, problem: str) -> str:
    """Return why Firecracker cannot run a VM, empty where it can. ``problem``: the pair's."""
    if accelerator != "kvm":
        return "it needs KVM, which is not proven to work on this host"
    if vcpus > MAX_FIRECRACKER_VCPUS:
        return f"it gives a guest {MAX_FIRECRACKER_VCPUS} vCPUs at most, not {vcpus}"
    return problem


def choose(wanted: WantedVmm, obstacle: str, *, limits_network: bool) -> Vmm:
    """Return the program for a VM; ``obstacle``: why it cannot be Firecracker.

    StageFailedError where what is wanted cannot be had: QEMU has no limit for a guest's network.
    """
    chosen: Vmm = "firecracker" if wanted == "firecracker" or (wanted == "auto" and not obstacle) else "qemu"
    if chosen == "firecracker" and obstacle:
        raise StageFailedError(
            f"Firecracker cannot run this VM: {obstacle}",
            resolution="`banger doctor` tells more on its host; `--vmm qemu` runs it by QEMU.",
        )
    if chosen == "qemu" and limits_network:
        why = f"since Firecracker cannot run it: {obstacle}" if obstacle else "as its host is configured"
        raise StageFailedError(
            "QEMU does not limit a guest's network",
            details=f"the VM would be run by QEMU, {why}",
            resolution="Ask for it without a limit for its network, or where Firecracker can run it.",
        )
    return chosen
