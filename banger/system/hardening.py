"""What each service may not do: systemd's settings, each with its reason. docs/install.md shows these tables.

Seccomp filters, capability bounds and limits are inherited by what a service starts, VMMs among it; a mount
namespace is too, and outlives the service in a VMM.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class Setting(NamedTuple):
    """One line of a unit's [Service] section, and why it is there."""

    name: str
    value: str
    reason: str


# Each was taken away alone, from a root worker that made, stopped, started and removed a VM: without it, what
# its reason names fails. Exceptions: without CAP_SETPCAP setpriv keeps the bounding set and says nothing, and
# CAP_MKNOD is only missed with device-mapper. tests/integration/test_confinement.py works with the whole set.
ROOT_CAPABILITIES = {
    "CAP_CHOWN": "disks, logs and sockets become the VM's uid's",
    "CAP_DAC_OVERRIDE": "works in directories that the worker's user owns, and opens disks of VMs' uids",
    "CAP_FOWNER": "sets the mode of what it has given away",
    "CAP_KILL": "ends VMMs, which run under other uids",
    "CAP_MKNOD": "device-mapper nodes, which libdm makes itself: udev would give them to root again",
    "CAP_NET_ADMIN": "taps, the bridge's ports, nftables",
    "CAP_SETGID": "VMMs and debugfs run under the VM's gid",
    "CAP_SETPCAP": "takes the bounding set away from what it starts",
    "CAP_SETUID": "VMMs and debugfs run under the VM's uid",
    "CAP_SYS_ADMIN": "namespaces and mounts of jails, loop devices, device-mapper",
    "CAP_SYS_CHROOT": "jails are chroots",
}

PREPARATION_CAPABILITIES = ("CAP_NET_ADMIN", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID")

_NEVER = "@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap"

_EVERY_SERVICE = (
    Setting("NoNewPrivileges", "yes", "no setuid program gives anything back"),
    Setting("UMask", "0077", "what it writes is its own, unless it says otherwise"),
    Setting("LimitCORE", "0", "no core dump with passwords in it"),
    Setting("ProtectSystem", "strict", "the host's files are read-only but for the paths below"),
    Setting("ProtectHome", "yes", "no home is seen"),
    Setting("PrivateTmp", "yes", "a /tmp of its own"),
    Setting("ProtectClock", "yes", "the time is the host's"),
    Setting("ProtectHostname", "yes", "so is its name"),
    Setting("ProtectKernelLogs", "yes", "the kernel's log is not read"),
    Setting("ProtectKernelModules", "yes", "no module is loaded but by the kernel itself, on demand"),
    Setting("LockPersonality", "yes", "no other ABI"),
    Setting("SystemCallArchitectures", "native", "no 32-bit system calls around the filter"),
    Setting("RestrictRealtime", "yes", "nothing starves the host"),
    Setting("RestrictSUIDSGID", "yes", "no setuid file is made"),
    Setting("SystemCallErrorNumber", "EPERM", "what is filtered fails and is told, rather than killing"),
)

_NO_CAPABILITY = (
    Setting("CapabilityBoundingSet", "", "none, and none can be gained"),
    Setting("AmbientCapabilities", "", "none"),
)

_PORT_53 = (
    Setting("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE", "to listen where name servers are asked"),
    Setting("AmbientCapabilities", "CAP_NET_BIND_SERVICE", "the same: it is never root"),
)

_UNPRIVILEGED = (
    Setting("PrivateDevices", "yes", "null, zero, random and ptys are all the devices"),
    Setting("ProtectControlGroups", "yes", "cgroups are root's"),
    Setting("ProtectKernelTunables", "yes", "/proc/sys and /sys are read-only"),
    Setting("ProtectProc", "invisible", "other users' processes are not seen"),
    Setting("RestrictNamespaces", "yes", "no user namespace, the way to most kernel bugs"),
    Setting("MemoryDenyWriteExecute", "yes", "nothing here makes code at run time"),
    Setting("SystemCallFilter", "@system-service", "what services need"),
    Setting("SystemCallFilter", "~@privileged @resources", "less what these have no use for"),
)

# /dev/kvm by its number, which systemd takes as it stands: by its name it would be refused to a service that
# starts, at boot, before udev has made it.
_KVM = "/dev/char/10:232"

_ROOT = (
    Setting("CapabilityBoundingSet", " ".join(ROOT_CAPABILITIES), "see the table of capabilities"),
    Setting("DevicePolicy", "closed", "null, zero, random and ptys, and these:"),
    Setting("DeviceAllow", f"{_KVM} rwm", "VMMs"),
    Setting("DeviceAllow", "/dev/net/tun rwm", "taps"),
    Setting("DeviceAllow", "/dev/loop-control rw", "block devices of base images and overlays"),
    Setting("DeviceAllow", "block-loop rwm", "the same"),
    Setting("DeviceAllow", "/dev/mapper/control rw", "dm-snapshot"),
    Setting("DeviceAllow", "block-device-mapper rwm", "system disks"),
    Setting("RestrictNamespaces", "mnt net pid ipc uts", "jails; no user namespaces, no cgroup namespaces"),
    Setting("SystemCallFilter", "@system-service @mount seccomp", "jails are mounted; QEMU filters itself"),
    Setting("SystemCallFilter", f"~{_NEVER}", "never"),
    Setting("OOMPolicy", "continue", "a VMM that is out of memory ends alone"),
    Setting(
        "KillMode", "process", "a restart ends the worker alone, also where VMMs have no units of their own"
    ),
)


_PREPARATION = (
    Setting("CapabilityBoundingSet", " ".join(PREPARATION_CAPABILITIES), "the bridge; trying KVM as nobody"),
    Setting("DevicePolicy", "closed", "null, zero, random and ptys, and this:"),
    Setting("DeviceAllow", f"{_KVM} rw", "to be tried"),
    Setting("RestrictNamespaces", "yes", "no namespaces"),
    Setting("SystemCallFilter", "@system-service seccomp", "what services need, and QEMU's own filter"),
    Setting("SystemCallFilter", f"~{_NEVER} @mount", "never"),
)


def unprivileged(
    *, writable: Iterable[Path], addresses: Sequence[str], families: str = "AF_UNIX AF_INET AF_INET6"
) -> tuple[Setting, ...]:
    """Return the settings of a service without privileges; ``addresses`` are all that it may reach."""
    return (*_EVERY_SERVICE, *_NO_CAPABILITY, *_UNPRIVILEGED, *_reach(writable, addresses, families))


def name_server(*, addresses: Sequence[str]) -> tuple[Setting, ...]:
    """Return the settings of the name server, which guests send what they like. It asks netlink for links."""
    reach = _reach((), addresses, "AF_UNIX AF_INET AF_NETLINK")
    return (*_EVERY_SERVICE, *_PORT_53, *_UNPRIVILEGED, *reach)


def root(*, writable: Iterable[Path], addresses: Sequence[str]) -> tuple[Setting, ...]:
    """Return the settings of the root worker. QEMU's emulation makes code at run time, so that is not denied.

    Cgroups and /proc/sys stay writable: VMs' limits and taps' own switches are set there.
    """
    families = "AF_UNIX AF_INET AF_INET6 AF_NETLINK"
    return (*_EVERY_SERVICE, *_ROOT, *_reach(writable, addresses, families))


def preparation(*, writable: Iterable[Path]) -> tuple[Setting, ...]:
    """Return the settings of what makes the bridge and boots a kernel to try KVM, as root, once."""
    return (*_EVERY_SERVICE, *_PREPARATION, *_reach(writable, ("localhost",), "AF_UNIX AF_INET AF_NETLINK"))


def _reach(writable: Iterable[Path], addresses: Sequence[str], families: str) -> Iterable[Setting]:
    for path in writable:
        yield Setting("ReadWritePaths", f"-{path}", "what it works on")
    yield Setting("RestrictAddressFamilies", families, "no other kind of socket")
    if addresses:
        yield Setting("IPAddressDeny", "any", "no network")
        yield Setting("IPAddressAllow", " ".join(addresses), "but this")
