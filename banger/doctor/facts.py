"""What is known of a machine and its farm before anything is judged: plain values."""

from __future__ import annotations

from typing import Literal, NamedTuple

from banger.firecracker_pair import Pair


class Tool(NamedTuple):
    """A program that banger starts: its Debian package, how to ask its version, and what it is for."""

    name: str
    package: str
    ask: tuple[str, ...]
    purpose: str
    for_images: bool = False


TOOLS = (
    Tool("redis-server", "redis-server", ("--version",), "the embedded farm's Redis"),
    Tool(
        "redis-check-aof", "redis-tools", ("--version",), "mends the embedded Redis' files before its start"
    ),
    Tool("qemu-system-x86_64", "qemu-system-x86", ("--version",), "runs the VMs"),
    Tool("nft", "nftables", ("--version",), "filters guests' packets, and NAT"),
    Tool("ip", "iproute2", ("-V",), "shows links and routes"),
    Tool("dnsmasq", "dnsmasq-base", ("--version",), "answers for NAME.vm"),
    Tool("debugfs", "e2fsprogs", ("-V",), "writes guest files without mounting"),
    Tool("e2fsck", "e2fsprogs", ("-V",), "replays a disk's journal"),
    Tool("mkfs.ext4", "e2fsprogs", ("-V",), "makes work disks"),
    Tool("resize2fs", "e2fsprogs", (), "grows work disks"),
    Tool("losetup", "mount", ("--version",), "block devices of files"),
    Tool("setpriv", "util-linux", ("--version",), "drops privileges"),
    Tool("unshare", "util-linux", ("--version",), "keeps VMMs apart from the host"),
    Tool("ssh", "openssh-client", ("-V",), "reaches guests"),
    Tool("ssh-keygen", "openssh-client", (), "makes the farm's key"),
    Tool("mmdebstrap", "mmdebstrap", ("--version",), "fetches Debian packages", for_images=True),
    Tool("cpio", "cpio", ("--version",), "packs the initrd", for_images=True),
    Tool("zstd", "zstd", ("--version",), "unpacks kernels", for_images=True),
    Tool("dmsetup", "dmsetup", ("--version",), "system disks by dm-snapshot"),
)
OPTIONAL_TOOLS = frozenset({"dmsetup", "dnsmasq", "ip", "redis-check-aof"})


class RedisFacts(NamedTuple):
    """The farm's Redis. ``problem``: why it cannot be asked, ``remedy``: what would help.

    Settings are None where it does not say. ``seat_taken``: another machine serves under this host's name,
    and what to do.
    """

    problem: str = ""
    remedy: str = ""
    version: str = ""
    policy: str | None = None
    append_only: str | None = None
    seat_taken: tuple[str, str] | None = None


class KvmFacts(NamedTuple):
    """Hardware virtualization. ``verdict`` is of a probe boot: did it work, and why so."""

    device: bool
    for_others: bool
    verdict: tuple[bool, str] | None


class DiskFacts(NamedTuple):
    """The state directory's file system. ``reflink`` is None where this user may not try it."""

    directory: str
    file_system: str
    free_mib: int
    reflink: bool | None


class NamesFacts(NamedTuple):
    """Names of VMs. ``answers``: what listens at the gateway's port 53 (farm, other, nobody).

    ``known_here``: programs on this host find them too. None while no VM runs: systemd-resolved asks nobody
    by way of a bridge on which nobody is.
    """

    wanted: bool
    gateway: str
    answers: Literal["farm", "other", "nobody"]
    known_here: bool | None


class OwnerFacts(NamedTuple):
    """The farm's owner (empty: root alone), who asks, and what is amiss with what the owner has."""

    name: str
    asking: str
    problems: tuple[str, ...] = ()


class InstallFacts(NamedTuple):
    """An installation under systemd in words, what has drifted of it, what the administrator changed."""

    words: str
    drift: tuple[tuple[str, str], ...]
    changed: tuple[tuple[str, str], ...]


class Facts(NamedTuple):
    """All that the checks judge. A tool's version is None where it is not installed.

    ``loop``: why there are no loop devices, empty where there are. ``vm_uids``: the first of them, and whose
    some of them are already. ``sealing``: why root would not do what this host's worker asks, None where
    there is nothing to say. ``trouble``: VMs in error, lost ones, full disks and late jobs, in words.
    ``changed_files``: of images, since they were verified. ``strange``: what root finds here that is no VM's.
    ``damaged_aof``: what had to be cut of Redis' file, as it was, and since when.
    """

    root: bool
    tools: dict[str, str | None]
    worker_user: str
    worker_user_exists: bool
    owner: OwnerFacts
    tun: bool
    bridge: bool
    nftables: bool | None
    loop: str | None
    snapshot_target: bool | None
    kvm: KvmFacts
    disk: DiskFacts
    cgroup: int
    vm_uids: tuple[int, tuple[str, ...]]
    images: tuple[str, ...]
    names: NamesFacts
    redis: RedisFacts
    served: dict[str, bool]
    wanted_backend: str
    wanted_accelerator: str
    wanted_vmm: str
    pair: Pair
    own_redis: bool
    trouble: tuple[str, ...] = ()
    changed_files: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    sealing: str | None = None
    damaged_aof: tuple[str, str] | None = None
    installation: InstallFacts | None = None
