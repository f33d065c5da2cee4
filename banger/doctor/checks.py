"""The checks: each a small pure judgement over the facts, with what it means and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from banger.contracts.vmm import obstacle
from banger.doctor.facts import OPTIONAL_TOOLS, TOOLS, Facts, Tool
from banger.doctor.report import Check, fail, ok, warn
from banger.name_server import DOMAIN, OLDEST, PORT

_LITTLE_MIB = 10 * 1024
_TOO_LITTLE_MIB = 1024
_MOST_TOLD = 5
_ASK_ROOT = "Run it with sudo to know."


def examine(facts: Facts) -> list[Check]:
    """Return all checks, in the order in which a person would mend things."""
    return [
        *(tool_check(tool, facts) for tool in TOOLS),
        *(tun(facts), bridge(facts), nftables(facts), loop(facts)),
        *(worker_user(facts), owner(facts), cgroup(facts), vm_uids(facts), state_directory(facts)),
        *(
            reflink(facts),
            snapshot_target(facts),
            disk_backend(facts),
            firecracker(facts),
            vmm(facts),
            accelerator(facts),
        ),
        *(images(facts), names(facts), *installation(facts), *sealing(facts), redis(facts)),
        *(
            ()
            if facts.redis.problem
            else (
                *(redis_policy(facts), redis_append_only(facts)),
                *(seat(facts), queues(facts), strange(facts), trouble(facts)),
            )
        ),
        *redis_cut(facts),
    ]


def tool_check(tool: Tool, facts: Facts) -> Check:
    """Is a program there?"""
    version = facts.tools.get(tool.name)
    meaning = (
        f"{tool.name} {tool.purpose}"
        if tool.purpose.split()[0].endswith("s")
        else f"needed for {tool.purpose}"
    )
    if version is not None:
        return ok(tool.name, version, meaning)
    remedy = f"apt-get install {tool.package}"
    if tool.name in OPTIONAL_TOOLS or (tool.name == "redis-server" and not facts.own_redis):
        return warn(tool.name, "not installed", meaning, remedy)
    if tool.for_images:
        return warn(tool.name, "not installed", f"{meaning}: images cannot be built here", remedy)
    return fail(tool.name, "not installed", meaning, remedy)


def tun(facts: Facts) -> Check:
    """Can taps be made?"""
    meaning = "a guest's network card is a tap on this host"
    if facts.tun:
        return ok("tun", "/dev/net/tun", meaning)
    return fail("tun", "no /dev/net/tun", meaning, "modprobe tun")


def bridge(facts: Facts) -> Check:
    """Can bridges be made?"""
    meaning = "guests' taps are joined by a bridge"
    if facts.bridge:
        return ok("bridge", "in the kernel", meaning)
    return fail("bridge", "not in this kernel", meaning, "modprobe bridge, or use a kernel that has it")


def nftables(facts: Facts) -> Check:
    """Can packets be filtered?"""
    meaning = "guests are kept from using each other's addresses, and NAT is made, by nftables"
    if facts.nftables is None:
        return warn("nftables", "unknown", meaning, _ASK_ROOT)
    if facts.nftables:
        return ok("nftables", "in the kernel", meaning)
    return fail("nftables", "not in this kernel", meaning, "modprobe nf_tables, or use a kernel that has it")


def loop(facts: Facts) -> Check:
    """Are there loop devices?"""
    meaning = "dm-snapshot needs two block devices of files for each VM"
    if facts.loop is None:
        return warn("loop", "unknown", meaning, _ASK_ROOT)
    if not facts.loop:
        return ok("loop", "there are free ones", meaning)
    remedy = "modprobe loop, or detach some of `losetup --list`; without it, another disk backend is used"
    return warn("loop", facts.loop, meaning, remedy)


def worker_user(facts: Facts) -> Check:
    """Is there somebody to be for the unprivileged worker?"""
    name, meaning = facts.worker_user, "the unprivileged worker, Redis and Flower run as a system user"
    if facts.worker_user_exists:
        return ok("worker user", name, meaning)
    return fail(
        "worker user", f"no user {name}", meaning, f"useradd --system --user-group --no-create-home {name}"
    )


def owner(facts: Facts) -> Check:
    """Who may use the farm without sudo, and can they?"""
    found, meaning = facts.owner, "the owner's banger needs no sudo; other users have no farm here"
    who = found.name or "nobody: root alone uses this farm"
    if found.problems:
        again = "system install" if facts.installation else "farm down; sudo banger farm up"
        remedy = f"sudo banger {again}; for a mode: chmod 600"
        return fail("owner", f"{who}: {'; '.join(found.problems)}", meaning, remedy)
    if found.asking in ("root", found.name):
        return ok("owner", who, meaning)
    return warn("owner", f"{who}, and you are {found.asking}", meaning, "Set owner, and start the farm anew.")


def cgroup(facts: Facts) -> Check:
    """Which cgroups? Both versions will do."""
    bounded = "memory, threads and processor time of a VM are bounded"
    if facts.cgroup == 1:
        return ok("cgroup", "version 1", f"{bounded}; its reads and writes are not")
    return ok("cgroup", "version 2", f"{bounded}; under systemd its reads and writes too")


def vm_uids(facts: Facts) -> Check:
    """Is a VM's uid that VM's alone?"""
    first, others = facts.vm_uids
    name, meaning = (
        "VM uids",
        "each VM has a uid of its own; what else has it, or has it for a group, is killed with it",
    )
    if not others:
        return ok(name, f"free from {first} on", meaning)
    return warn(name, f"from {first} on some belong to {', '.join(others)}", meaning, "Set another uid_base.")


def state_directory(facts: Facts) -> Check:
    """Is there room?"""
    disk = facts.disk
    found = f"{disk.directory} on {disk.file_system}, {disk.free_mib / 1024:.1f} GiB free"
    meaning = "images and VM disks are sparse files there, and grow as guests write"
    if disk.free_mib < _TOO_LITTLE_MIB:
        return fail("state directory", found, meaning, "Make room, or move it: set state_dir.")
    if disk.free_mib < _LITTLE_MIB:
        return warn("state directory", found, meaning, "Make room, or move it: set state_dir.")
    return ok("state directory", found, meaning)


def reflink(facts: Facts) -> Check:
    """Can the file system clone?"""
    meaning = "with FICLONE a system disk is made in well under a millisecond, whatever its size"
    if facts.disk.reflink is None:
        return warn("reflink", "unknown", meaning, _ASK_ROOT)
    if facts.disk.reflink:
        return ok("reflink", f"works on {facts.disk.file_system}", meaning)
    remedy = "Put state_dir on XFS or btrfs; without it, dm-snapshot or a copy is used."
    return warn("reflink", f"not on {facts.disk.file_system}", meaning, remedy)


def snapshot_target(facts: Facts) -> Check:
    """Does device-mapper know snapshots?"""
    meaning = "with dm-snapshot a system disk shares its base on any file system"
    if facts.snapshot_target is None:
        return warn("dm-snapshot", "unknown", meaning, _ASK_ROOT)
    if facts.snapshot_target:
        return ok("dm-snapshot", "in the kernel", meaning)
    remedy = "Use a kernel with DM_SNAPSHOT; without it, reflink or a copy is used."
    return warn("dm-snapshot", "not in this kernel", meaning, remedy)


def disk_backend(facts: Facts) -> Check:
    """Which backend would a new VM's system disk have, and why?"""
    name, meaning = "disk backend", "how a VM's system disk is made from its image"
    snapshots = facts.snapshot_target and not facts.loop
    works = {"dm-snapshot": snapshots, "reflink": facts.disk.reflink, "copy": True}
    if facts.wanted_backend != "auto":
        found = f"{facts.wanted_backend}, as configured"
        if works[facts.wanted_backend] is False:
            return fail(name, f"{found}, which does not work here", meaning, "Set disk_backend to auto.")
        return ok(name, found, meaning)
    if None in works.values():
        return warn(name, "unknown", meaning, _ASK_ROOT)
    if works["dm-snapshot"]:
        return ok(name, "dm-snapshot, since this kernel has it", meaning)
    if works["reflink"]:
        return ok(name, "reflink, since the file system can and dm-snapshot is not there", meaning)
    remedy = "Nothing has to be done. XFS, btrfs or dm-snapshot would be faster and smaller."
    return warn(name, "copy, since neither dm-snapshot nor reflink works", meaning, remedy)


def firecracker(facts: Facts) -> Check:
    """Are Firecracker and its jailer there, of one version, and nobody's but root's to write?"""
    name, pair = "Firecracker", facts.pair
    meaning = "with its jailer it runs VMs where KVM works; without, QEMU does"
    if not pair.problem:
        return ok(name, f"{pair.version}, and its jailer", meaning)
    remedy = f"Install both of one release as {pair.places}: chown root:root, chmod 755; or set vmm to qemu."
    if facts.wanted_vmm == "firecracker":
        return fail(name, pair.problem, meaning, remedy)
    if not pair.there:
        return ok(name, "not installed", meaning)
    return warn(name, pair.problem, meaning, remedy)


def vmm(facts: Facts) -> Check:
    """Which program would run a new VM, and why?"""
    name, meaning = "VMM", "the VMM runs a VM, under a user id of the VM's own"
    qemu, wanted = facts.tools.get("qemu-system-x86_64") is not None, facts.wanted_vmm
    proven = facts.kvm.device and facts.kvm.for_others and bool(facts.kvm.verdict and facts.kvm.verdict[0])
    kvm = facts.wanted_accelerator == "kvm" or (facts.wanted_accelerator == "auto" and proven)
    why_not = obstacle("kvm" if kvm else "tcg", 1, facts.pair.problem)
    configured = "" if wanted == "auto" else ", as configured"
    if wanted == "firecracker" and why_not:
        return fail(
            name, f"none: firecracker{configured}, but {why_not}", meaning, "Set vmm to auto or qemu."
        )
    if wanted != "qemu" and not why_not:
        return ok(name, f"firecracker{configured or ', since KVM and the pair work'}", meaning)
    if not qemu:
        return fail(name, "none: QEMU is not installed", meaning, "apt-get install qemu-system-x86")
    reason = configured or f"; not firecracker: {why_not}"
    return ok(name, f"qemu (machine type microvm){reason}", meaning)


def accelerator(facts: Facts) -> Check:
    """KVM or emulation, and why?"""
    name, meaning, kvm = "accelerator", "emulated guests start and run about ten times slower", facts.kvm
    remedy = "Use a machine with KVM; on a rented one, ask for nested virtualization."
    if facts.wanted_accelerator != "auto":
        return ok(name, f"{facts.wanted_accelerator}, as configured", meaning)
    if not kvm.device:
        return warn(name, "tcg (emulation): there is no /dev/kvm", meaning, remedy)
    if not kvm.for_others:
        return warn(
            name,
            "tcg (emulation): only root may open /dev/kvm",
            meaning,
            "chown root:kvm /dev/kvm; chmod 660 /dev/kvm",
        )
    if kvm.verdict is None:
        found = "not known yet: starting the farm, or building an image, probes KVM by booting"
        return warn(name, found, meaning, "banger image build micro")
    works, reason = kvm.verdict
    if works:
        return ok(name, f"kvm: {reason}", "guests run at the processor's own speed")
    return warn(name, f"tcg (emulation): {reason}", meaning, remedy)


def images(facts: Facts) -> Check:
    """Is there something to boot?"""
    meaning = "a VM's system disk starts from an image"
    if facts.changed_files:
        remedy = (
            "Put them back as they were, with their times; or delete these VMs and images, and build again."
        )
        changed = f"changed since it was verified: {', '.join(facts.changed_files)}"
        return fail("images", changed, "snapshots over a base that has changed are torn, and refused", remedy)
    if facts.images:
        return ok("images", ", ".join(facts.images), meaning)
    return warn("images", "none yet", meaning, "banger image build micro")


def names(facts: Facts) -> Check:
    """Do VMs' names resolve, in guests and here?"""
    found, meaning = facts.names, f"NAME.{DOMAIN} is a VM's address, in guests and on this host"
    name, again = "names", "system install" if facts.installation else "farm down; sudo banger farm up"
    if not found.wanted:
        return ok(name, "off, as configured", meaning)
    version = facts.tools.get("dnsmasq")
    if version is None:
        remedy = f"apt-get install dnsmasq-base; sudo banger {again}"
        return warn(name, "off: there is no dnsmasq", meaning, remedy)
    if found.answers == "nobody":
        # One that came after the farm was started is not among its services: a restart would not help.
        runs = facts.installation or any(facts.served.values())
        remedy = f"sudo banger {again if runs else 'farm up'}"
        return warn(name, f"nobody answers at {found.gateway}:{PORT}", meaning, remedy)
    if found.answers == "other":
        remedy = f"`ss -lnup sport = {PORT}` tells whose it is: move it, or set names to false."
        return warn(name, f"another name server answers at {found.gateway}:{PORT}", meaning, remedy)
    if found.known_here is False:
        remedy = f"Have this host's resolver ask {found.gateway} for {DOMAIN}: see docs/network.md."
        return warn(name, "in guests; programs on this host do not find them", meaning, remedy)
    if (numbers := _numbers(version)) and numbers < OLDEST:
        remedy = f"Use dnsmasq {'.'.join(map(str, OLDEST))} or newer; restarting this one forgets them."
        return warn(name, f"dnsmasq {version} keeps names of VMs that are gone", meaning, remedy)
    where = (
        "in guests and here" if found.known_here else "in guests; what this host finds shows when a VM runs"
    )
    return ok(name, f"{where}, by {found.gateway}", meaning)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def installation(facts: Facts) -> Iterator[Check]:
    """Is what `banger system install` made as it was made? Nothing is said where it made nothing."""
    name, installed = "installation", facts.installation
    meaning = "units, users, owners and modes keep the services apart from each other and from the host"
    if installed is None:
        return
    for what, how in installed.drift:
        yield fail(name, f"{what} {how}", meaning, "sudo banger system install")
    for what, how in installed.changed:
        yield warn(name, f"{what} {how}", meaning, f"See `systemctl cat {what}`; systemctl revert undoes it.")
    if not installed.drift:
        yield ok(name, installed.words, meaning)


def sealing(facts: Facts) -> Iterator[Check]:
    """Does root trust the key of its worker? Nothing is said where there is no farm, or nobody to know."""
    name, meaning = "root's trust", "root does what is sealed with its worker's key, and nothing else"
    remedy = "sudo banger system install" if facts.installation else "sudo banger farm up"
    if facts.sealing:
        yield fail(name, facts.sealing, meaning, remedy)
    elif facts.sealing is not None:
        yield ok(name, "the worker's key", meaning)


def redis(facts: Facts) -> Check:
    """Can Redis be reached?"""
    meaning = "Redis carries the work between the workers and remembers the VMs"
    if facts.redis.problem:
        return fail("Redis", facts.redis.problem, meaning, facts.redis.remedy)
    return ok("Redis", facts.redis.version, meaning)


def redis_policy(facts: Facts) -> Check:
    """Would Redis throw records away?"""
    name, meaning = (
        "Redis maxmemory-policy",
        "any other than noeviction would throw VM records away when memory is short",
    )
    policy = facts.redis.policy
    if policy is None:
        return warn(name, "unknown", meaning, _whom_to_ask(facts))
    if policy == "noeviction":
        return ok(name, policy, meaning)
    return fail(name, policy, meaning, "redis-cli CONFIG SET maxmemory-policy noeviction, and in its file")


def redis_append_only(facts: Facts) -> Check:
    """Would Redis forget when it is restarted?"""
    name, meaning = "Redis appendonly", "without it, what happened since the last snapshot is lost in a crash"
    found = facts.redis.append_only
    if found is None:
        return warn(name, "unknown", meaning, _whom_to_ask(facts))
    if found == "yes":
        return ok(name, found, meaning)
    return warn(name, found, meaning, "redis-cli CONFIG SET appendonly yes, and in its file")


def redis_cut(facts: Facts) -> Iterator[Check]:
    """Had Redis' file to be cut before its start? Nothing is said where it had not."""
    if facts.damaged_aof is None:
        return
    path, since = facts.damaged_aof
    meaning = "what Redis was told last is lost; hosts tell it their VMs again, jobs and events they cannot"
    remedy = f"`banger reconcile`, and when all is well: rm {path}"
    yield warn("Redis' file", f"was damaged, and cut on {since}; {path} is as it was", meaning, remedy)


def _whom_to_ask(facts: Facts) -> str:
    return _ASK_ROOT if facts.own_redis and not facts.root else "Ask the administrator of that Redis."


def seat(facts: Facts) -> Check:
    """Is this the one machine of its host's name?"""
    name, meaning = "seat", "one machine serves under a host's name; a second one's workers wait"
    if facts.redis.seat_taken is None:
        return ok(name, "no other machine serves under this host's name", meaning)
    found, remedy = facts.redis.seat_taken
    return fail(name, found, meaning, remedy)


def queues(facts: Facts) -> Check:
    """Does anybody work?"""
    meaning = "a queue that nobody serves keeps every VM waiting"
    idle = [queue for queue, served in facts.served.items() if not served]
    if not idle:
        return ok("queues", ", ".join(facts.served), meaning)
    remedy = "sudo banger system restart" if facts.installation else "sudo banger farm up"
    return fail("queues", f"nobody serves {', '.join(idle)}", meaning, remedy)


def strange(facts: Facts) -> Check:
    """Did a crash leave something of a VM that nobody knows?"""
    name, meaning = (
        "leftovers",
        "what a crash has left keeps names, memory or disks; reconcile removes its own",
    )
    if not facts.strange:
        return ok(name, "none", meaning)
    more = len(facts.strange) - _MOST_TOLD
    found = "; ".join((*facts.strange[:_MOST_TOLD], *((f"{more} more",) if more > 0 else ())))
    return warn(
        name, found, meaning, "`banger reconcile` removes what is surely ours, and tells of the rest."
    )


def trouble(facts: Facts) -> Check:
    """Is there something that banger does not mend by itself?"""
    name, meaning = "VMs and jobs", "a VM in error keeps its disks until it is started or deleted"
    if not facts.trouble:
        return ok(name, "none in error, lost or overdue", meaning)
    more = len(facts.trouble) - _MOST_TOLD
    found = "; ".join((*facts.trouble[:_MOST_TOLD], *((f"{more} more",) if more > 0 else ())))
    remedy = (
        "`banger vm show NAME` or `banger job show JOB` tells why; `banger vm delete NAME` removes a VM. "
        "Of one whose create failed, type the id: its name may be another's by now."
    )
    return warn(name, found, meaning, remedy)
