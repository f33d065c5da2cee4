"""QEMU's command line for one microVM, as a pure function of what it is given.

Nothing in it is text from a request: ids and numbers, descriptors, and paths that root derived. What QEMU
may touch is opened before it starts; it gets drives, tap and QMP socket as descriptors.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from banger.contracts.accelerator import Accelerator
from banger.contracts.names import KERNELS, link_alias
from banger.contracts.requests import LaunchRequest
from banger.contracts.vmm_limits import MIB, TCG_BUFFER_MIB

BINARY = Path("/usr/bin/qemu-system-x86_64")

# pit and pic let a kernel calibrate its clock, should it have to; without rtc the boot waits 2 s for one.
# Without option ROMs QEMU starts the kernel from qboot instead of SeaBIOS: 0.1 s under emulation.
MACHINE = (
    "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on,"
    "usb=off,pcie=off,auto-kernel-cmdline=off,x-option-roms=off"
)
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
# cryptomgr.notests saves 0.4 s of self-tests under emulation. reboot=t: there is no keyboard controller to
# reset by, and asking it (reboot=k) takes 2 s. With -no-reboot a reset, and so a panic, ends the VMM.
BOOT_ARGUMENTS = (
    "console=ttyS0 root=/dev/vda rootfstype=ext4 rw net.ifnames=0 quiet cryptomgr.notests reboot=t panic=1"
)


class Drive(NamedTuple):
    """An opened raw disk; ``block`` says whether it is a block device or a file."""

    fd: int
    block: bool


class Machine(NamedTuple):
    """One microVM as its driver sees it. ``drives`` in the guest's order: vda, vdb. Rates are each drive's.

    ``tsc_khz`` is the frequency of the host's time-stamp counter where it is known, else None.
    """

    vm_id: str
    accelerator: Accelerator
    tsc_khz: int | None
    vcpus: int
    memory_mib: int
    kernel: Path
    initrd: Path
    mac: str
    drives: tuple[Drive, ...]
    tap_fd: int
    qmp_fd: int
    disk_rate_mib_s: int | None = None
    disk_ops_s: int | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """All that the VMM inherits beside its standard streams."""
        return (*(drive.fd for drive in self.drives), self.tap_fd, self.qmp_fd)


def machine(
    request: LaunchRequest,
    mac: str,
    accelerator: Accelerator,
    cpuinfo: str,
    drives: tuple[Drive, ...],
    tap_fd: int,
    qmp_fd: int,
) -> Machine:
    """Return the microVM of a request, where ``cpuinfo`` is the text of /proc/cpuinfo."""
    kernel = KERNELS / request.kernel
    return Machine(
        vm_id=request.vm_id,
        accelerator=accelerator,
        tsc_khz=tsc_khz(cpuinfo),
        vcpus=request.vcpus,
        memory_mib=request.memory_mib,
        kernel=kernel / "vmlinux",
        initrd=kernel / "initrd.img",
        mac=mac,
        drives=drives,
        tap_fd=tap_fd,
        qmp_fd=qmp_fd,
        disk_rate_mib_s=request.disk_rate_mib_s,
        disk_ops_s=request.disk_ops_s,
    )


def argv(machine: Machine) -> tuple[str, ...]:
    """Return the whole command line. Console output goes to stdout, a QMP server listens on ``qmp_fd``."""
    return (
        str(BINARY),
        *("-name", link_alias(machine.vm_id)),
        *("-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none"),
        *("-sandbox", SANDBOX),
        *("-machine", MACHINE),
        *("-accel", "kvm" if machine.accelerator == "kvm" else f"tcg,tb-size={TCG_BUFFER_MIB}"),
        *("-cpu", "host" if machine.accelerator == "kvm" else "max"),
        *("-smp", str(machine.vcpus)),
        *("-m", str(machine.memory_mib)),
        *("-kernel", str(machine.kernel)),
        *("-initrd", str(machine.initrd)),
        *("-append", boot_arguments(machine)),
        *("-global", "virtio-mmio.force-legacy=false"),
        *("-chardev", "stdio,id=console,signal=off"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=qmp,fd={machine.qmp_fd},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-object", "rng-builtin,id=rng"),
        *("-device", "virtio-rng-device,rng=rng"),
        *(word for index, drive in enumerate(machine.drives) for word in _drive(index, drive, machine)),
        *("-netdev", f"tap,id=net,fd={machine.tap_fd},vhost=off"),
        *("-device", f"virtio-net-device,netdev=net,mac={machine.mac}"),
    )


def probe_argv(kernel: Path) -> tuple[str, ...]:
    """Return a command line that boots a kernel under KVM into its panic for want of a root, and ends.

    The panic is all that it says: each letter more costs an emulated host, whose guests are nested, a while.
    """
    return (
        str(BINARY),
        *("-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none"),
        *("-sandbox", SANDBOX),
        *("-machine", MACHINE),
        *("-accel", "kvm"),
        *("-cpu", "host"),
        *("-m", "128"),
        *("-kernel", str(kernel)),
        *("-append", "console=ttyS0 loglevel=1 cryptomgr.notests reboot=t panic=-1"),
        *("-serial", "stdio"),
    )


def boot_arguments(machine: Machine) -> str:
    """Return the kernel's command line.

    Under emulation the guest reads the host's time-stamp counter, and this machine has no other tick that
    the kernel could live on: where the host is busy, calibration fails and the boot hangs (measured: 1 in
    7 with two vCPUs' worth of load on two cores). So we say the frequency. KVM tells its guests itself.
    """
    if machine.accelerator == "tcg" and machine.tsc_khz is not None:
        return f"{BOOT_ARGUMENTS} tsc_early_khz={machine.tsc_khz} tsc=reliable"
    return BOOT_ARGUMENTS


def tsc_khz(cpuinfo: str) -> int | None:
    """Return the time-stamp counter's frequency (kHz) from /proc/cpuinfo's text, None when it is not there.

    ``cpu MHz`` is the counter's frequency only where the processor shows no actual one (aperfmperf), as in
    the virtual machines where emulation is all there is.
    """
    facts = dict(_fact(line) for line in cpuinfo.partition("\n\n")[0].splitlines())
    flags = facts.get("flags", "").split()
    if "constant_tsc" not in flags or "aperfmperf" in flags or "cpu MHz" not in facts:
        return None
    return round(float(facts["cpu MHz"]) * 1000)


def _fact(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _drive(index: int, drive: Drive, machine: Machine) -> tuple[str, ...]:
    """Describe one disk. The host's page cache is used, and the guest's flushes reach the disk.

    Direct I/O would spare memory, but many guests share their base image's pages through a reflink's
    cache misses only once, and file systems without O_DIRECT would be out. Discards give space back.
    """
    node = f"disk{index}"
    driver = "host_device" if drive.block else "file"
    limit = _limit(machine)
    return (
        *("-add-fd", f"fd={drive.fd},set={index}"),
        "-blockdev",
        f"driver={driver},node-name={node},filename=/dev/fdset/{index},"
        "cache.direct=off,cache.no-flush=off,aio=threads,discard=unmap"
        + ("" if drive.block else ",locking=on"),
        *(
            (
                *("-object", f"throttle-group,id=limit{index}{limit}"),
                *(
                    "-blockdev",
                    f"driver=throttle,node-name=slow{index},throttle-group=limit{index},file={node}",
                ),
            )
            if limit
            else ()
        ),
        *("-device", f"virtio-blk-device,drive={f'slow{index}' if limit else node},serial={node}"),
    )


def _limit(machine: Machine) -> str:
    """Return a throttle group's properties, empty where there is no limit."""
    rate = "" if machine.disk_rate_mib_s is None else f",x-bps-total={machine.disk_rate_mib_s * MIB}"
    return rate + ("" if machine.disk_ops_s is None else f",x-iops-total={machine.disk_ops_s}")
