"""What Firecracker is asked for one microVM: the whole sequence as a value, and its jailer's command line.

The bodies are those of Firecracker's own API description (1.16.1), as far as we use them. Nothing in them is
text from a request: numbers, addresses, and the names that things have in the VM's jail.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from banger.contracts.names import link_alias
from banger.contracts.requests import LaunchRequest
from banger.contracts.vmm import MAX_FIRECRACKER_VCPUS
from banger.contracts.vmm_limits import MIB

# What is where in the jail, whose root directory is all that Firecracker sees.
KERNEL = "/kernel"
INITRD = "/initrd"
CONSOLE = "/console"
METRICS = "/metrics"
VSOCK = "/run/vsock.socket"

MAX_BODY_BYTES = 51_200  # of a request; Firecracker refuses longer ones
MAX_BOOT_ARGUMENTS_BYTES = 2048
MAX_OPEN_FILES = 1024

# On x86 Firecracker ends when the guest resets by the keyboard controller (reboot=k), at a panic too. A guest
# that powers itself off just halts: there is nothing to do it by. No mouse is looked for (0.5 s). ACPI tells
# which interrupt is the keyboard's: with i8042.nopnp, of Firecracker's older examples, a guest would ask for
# number 1, which there is none of without a legacy controller.
BOOT_ARGUMENTS = (
    "console=ttyS0 rootfstype=ext4 net.ifnames=0 quiet cryptomgr.notests reboot=k panic=1 "
    "i8042.noaux i8042.nomux i8042.dumbkbd"
)
RESERVED_ARGUMENTS = frozenset({"root", "ro", "rw", "pci", "virtio_mmio.device"})


def _unreserved(arguments: str) -> str:
    taken = RESERVED_ARGUMENTS & {word.partition("=")[0] for word in arguments.split()}
    if taken:
        raise ValueError(f"Firecracker sets {', '.join(sorted(taken))} itself")
    return arguments


Absolute = Annotated[str, StringConstraints(pattern=r"^(/[a-z0-9][a-z0-9._-]*)+$", max_length=100)]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")]


class Body(BaseModel):
    """A request's body: immutable, and closed to fields that we do not know. What is None is not sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenBucket(Body):
    """``size`` tokens (bytes or operations) every ``refill_time`` milliseconds."""

    size: Annotated[int, Field(ge=1)]
    refill_time: Annotated[int, Field(ge=1)] = 1000


class RateLimiter(Body):
    """Limits of one device, in bytes and in operations; None: no such limit."""

    bandwidth: TokenBucket | None = None
    ops: TokenBucket | None = None


class Logger(Body):
    """Where Firecracker says what is amiss."""

    log_path: Absolute = CONSOLE
    level: Literal["Error", "Warning", "Info"] = "Warning"
    show_level: bool = True


class Metrics(Body):
    """Where Firecracker counts, in a line of JSON a minute."""

    metrics_path: Absolute = METRICS


class Serial(Body):
    """Where the guest's console goes."""

    serial_out_path: Absolute = CONSOLE


class MachineConfiguration(Body):
    """Processors and memory. No SMT, so that any number of vCPUs will do."""

    vcpu_count: Annotated[int, Field(ge=1, le=MAX_FIRECRACKER_VCPUS)]
    mem_size_mib: Annotated[int, Field(ge=1)]
    smt: Literal[False] = False


class BootSource(Body):
    """Kernel, initrd and command line, to which Firecracker adds root=, rw and what tells of its devices."""

    kernel_image_path: Absolute = KERNEL
    initrd_path: Absolute = INITRD
    boot_args: Annotated[
        str, StringConstraints(max_length=MAX_BOOT_ARGUMENTS_BYTES), AfterValidator(_unreserved)
    ] = BOOT_ARGUMENTS


class Drive(Body):
    """One disk. Writeback: what the guest flushes is on the host's disk, as it is with QEMU."""

    drive_id: Id
    path_on_host: Absolute
    is_root_device: bool
    is_read_only: bool = False
    cache_type: Literal["Unsafe", "Writeback"] = "Writeback"
    rate_limiter: RateLimiter | None = None


class NetworkInterface(Body):
    """The guest's network card, by its tap's name."""

    iface_id: Id = "net"
    host_dev_name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,15}$")]
    guest_mac: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]
    rx_rate_limiter: RateLimiter | None = None
    tx_rate_limiter: RateLimiter | None = None


class Vsock(Body):
    """The guest's vsock device; its socket is the VM's own."""

    guest_cid: Annotated[int, Field(ge=3, le=2**32 - 1)]
    uds_path: Absolute = VSOCK


class Entropy(Body):
    """The guest's source of random numbers."""


class Action(Body):
    """What Firecracker is told to do."""

    action_type: Literal["InstanceStart", "SendCtrlAltDel"]


class Request(NamedTuple):
    """One request of the API, with its body as JSON."""

    method: Literal["PUT"]
    path: str
    body: bytes


def sequence(request: LaunchRequest, tap: str, mac: str, cid: int, drives: int) -> tuple[Request, ...]:
    """Return what starts a microVM, in order; ``drives`` is how many disks it has, in the guest's order."""
    disk_limit = rate_limiter(request.disk_rate_mib_s, request.disk_ops_s)
    net_limit = rate_limiter(request.net_rate_mib_s)
    disks = [
        Drive(drive_id=name, path_on_host=f"/{name}", is_root_device=name == "vda", rate_limiter=disk_limit)
        for name in drive_names(drives)
    ]
    interface = NetworkInterface(
        host_dev_name=tap, guest_mac=mac, rx_rate_limiter=net_limit, tx_rate_limiter=net_limit
    )
    return (
        _put("/logger", Logger()),
        _put("/metrics", Metrics()),
        _put("/serial", Serial()),
        _put(
            "/machine-config",
            MachineConfiguration(vcpu_count=request.vcpus, mem_size_mib=request.memory_mib),
        ),
        _put("/boot-source", BootSource()),
        *(_put(f"/drives/{disk.drive_id}", disk) for disk in disks),
        _put(f"/network-interfaces/{interface.iface_id}", interface),
        _put("/vsock", Vsock(guest_cid=cid)),
        _put("/entropy", Entropy()),
        _put("/actions", Action(action_type="InstanceStart")),
    )


def ctrl_alt_del() -> Request:
    """Return the request that presses the keys by which a guest that listens restarts, which ends its VMM."""
    return _put("/actions", Action(action_type="SendCtrlAltDel"))


def rate_limiter(mib_s: int | None, ops_s: int | None = None) -> RateLimiter | None:
    """Return the limit of a device's MiB and operations a second, None where it has none."""
    if mib_s is None and ops_s is None:
        return None
    return RateLimiter(
        bandwidth=None if mib_s is None else TokenBucket(size=mib_s * MIB),
        ops=None if ops_s is None else TokenBucket(size=ops_s),
    )


def drive_names(drives: int) -> tuple[str, ...]:
    """Return what a guest's disks are called, there and in the jail."""
    return tuple(f"vd{chr(ord('a') + index)}" for index in range(drives))


def jailer_argv(
    jailer: Path, firecracker: Path, vm_id: str, uid: int, base: Path, max_file_bytes: int
) -> tuple[str, ...]:
    """Return the jailer's command line, which makes its jail beneath ``base``: see ``jail_root``.

    Seccomp filters are Firecracker's own. The first process of a PID namespace: it sees no other process, and
    the kernel tells it from its keeper. Cgroups are entered before.
    """
    return (
        str(jailer),
        *("--id", link_alias(vm_id)),
        *("--exec-file", str(firecracker)),
        *("--uid", str(uid), "--gid", str(uid)),
        *("--chroot-base-dir", str(base)),
        *("--resource-limit", f"fsize={max_file_bytes}"),
        *("--resource-limit", f"no-file={MAX_OPEN_FILES}"),
        *("--daemonize", "--new-pid-ns"),
    )


def jail_root(base: Path, binary: str, vm_id: str) -> Path:
    """Return the root directory that the jailer gives a Firecracker whose file is called ``binary``."""
    return base / binary / link_alias(vm_id) / "root"


def names_in_jail(drives: int) -> Sequence[str]:
    """Return what is shown to Firecracker beneath its root: kernel, initrd, then the disks."""
    return (KERNEL[1:], INITRD[1:], *drive_names(drives))


def _put(path: str, body: Body) -> Request:
    return Request("PUT", path, body.model_dump_json(exclude_none=True).encode())
