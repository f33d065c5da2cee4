"""What systemd is asked for a VM: a transient unit with its limits, as a pure function of numbers.

systemd makes the unit's cgroup, and ends the unit with the last process in it. It does not start the VMM,
whose descriptors root alone can hand on. What it does start is HOLDER, which reads the socket that it is
connected to until root has put the VMM into the cgroup, or has died; it does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from banger.contracts.names import SLICE, unit_name
from banger.contracts.vmm_limits import CPU_PERIOD_US, Controller

HOLDER = "cat"
# All that a VMM opens by itself; the rest it is given open, which is not asked about.
DEVICES = ("/dev/kvm rw", "/dev/net/tun rw", "block-device-mapper rw")
STOP_S = 10  # from a stop's SIGTERM to its SIGKILL
START_S = 60  # for root to put the VMM in
_WEIGHT, _MOST_WEIGHT = 100, 10_000  # systemd's default of one, and its bound


def start_argv(
    tool: Callable[[str], str], vm_id: str, limits: Mapping[Controller, int], socket: str
) -> tuple[str, ...]:
    """Return what makes the VM's unit, which comes to ``socket`` (an absolute path) once it has a cgroup."""
    return (
        *(tool("systemd-run"), "--quiet", "--no-ask-password", "--no-block"),
        *(f"--unit={unit_name(vm_id)}", f"--slice={SLICE}", f"--description=banger: VM {vm_id}"),
        *(f"--property={name}={value}" for name, value in _properties(limits, socket)),
        *("--", tool(HOLDER)),
    )


def _properties(limits: Mapping[Controller, int], socket: str) -> Iterator[tuple[str, str]]:
    # Started once HOLDER has ended, and so a VMM is there; gone with the last process, failed or not.
    yield from (("Type", "forking"), ("GuessMainPID", "no"), ("CollectMode", "inactive-or-failed"))
    yield from (("TimeoutStartSec", str(START_S)), ("TimeoutStopSec", str(STOP_S)))
    yield from (("StandardInput", f"file:{socket}"), ("StandardOutput", "null"))
    yield from (("CapabilityBoundingSet", ""), ("NoNewPrivileges", "yes"))  # of HOLDER
    yield "Delegate", "yes"  # root puts processes in
    yield "OOMPolicy", "continue"  # the keeper's last words
    yield from (("DevicePolicy", "closed"), *(("DeviceAllow", device) for device in DEVICES))
    yield "IPAddressDeny", "any"  # of sockets; a tap's frames are none
    yield "MemoryMax", str(limits["memory"])
    yield "MemorySwapMax", "0"  # see SWAP_FILES
    yield "TasksMax", str(limits["pids"])
    yield "CPUQuota", f"{limits['cpu'] * 100 // CPU_PERIOD_US}%"
    yield "IOWeight", str(io_weight(limits))


def io_weight(limits: Mapping[Controller, int]) -> int:
    """Return the VM's share of the disks among others: that of processor time, 100 a vCPU."""
    return min(limits["cpu"] * _WEIGHT // CPU_PERIOD_US, _MOST_WEIGHT)
