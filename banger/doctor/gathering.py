"""Gather the facts: looks and asks, and changes nothing."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import re
import shutil
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from banger import disk_backend, firecracker_pair, name_server, ticket_keys
from banger.connection import connect
from banger.contracts.accelerator import KVM, Verdict, groups_needed
from banger.contracts.boot import boot_id
from banger.contracts.errors import BangerError, NotFoundError, ToolFailedError
from banger.contracts.names import BRIDGE, HostPaths
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.contracts.seat import refused
from banger.contracts.states import State
from banger.doctor import vm_uids
from banger.doctor.facts import (
    TOOLS,
    DiskFacts,
    Facts,
    InstallFacts,
    KvmFacts,
    NamesFacts,
    RedisFacts,
    Tool,
)
from banger.doctor.ownership import ask_owner
from banger.embedded.account import worker_account
from banger.embedded.paths import farm_paths
from banger.embedded.redis_server import damaged_aof
from banger.findings import UNKEPT
from banger.images.catalogue import Catalogue
from banger.jobs import deadline_at
from banger.records import Records
from banger.settings import Settings
from banger.shell import find_tool, run
from banger.system import control

_ASK_DEADLINE_S = 10.0
_ANSWER_S = 2.5  # of Redis
_LOOKUP_S = 6.0  # of a name: longer than a server that does not answer takes
_VERSION = re.compile(r"\d+\.\d+[\w.]*")
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40  # linux/sockios.h, linux/if.h
_SIOCGIFBR = 0x8940  # linux/sockios.h; with three zeros it asks the bridge module for its version


def gather(settings: Settings) -> Facts:
    """Return the facts of this machine and its farm."""
    root = os.geteuid() == 0
    redis, served = _farm(settings)
    trouble = () if redis.problem else _trouble(settings)
    return Facts(
        root=root,
        tools={tool.name: _version(tool) for tool in TOOLS},
        worker_user=settings.worker_user,
        worker_user_exists=_user_exists(settings.worker_user),
        owner=ask_owner(settings.paths),
        tun=Path("/dev/net/tun").exists(),
        bridge=_has_bridges(),
        nftables=_succeeds("nft", "list", "tables") if root else None,
        loop=disk_backend.no_loops() if root else None,
        snapshot_target=disk_backend.has_snapshot_target() if root else None,
        kvm=_kvm(settings.paths),
        disk=_disk(settings.paths),
        cgroup=2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        vm_uids=(
            settings.uid_base,
            vm_uids.taken(settings.uid_base, settings.network.num_addresses),
        ),
        images=tuple(sorted({image.name for image in Catalogue(settings.paths).list()})),
        names=_names(settings),
        redis=redis,
        served=served,
        trouble=trouble,
        changed_files=Catalogue(settings.paths).changed(settings.paths.verified) if root else (),
        strange=() if redis.problem else _strange(settings),
        wanted_backend=settings.disk_backend,
        wanted_accelerator=settings.accelerator,
        wanted_vmm=settings.vmm,
        pair=firecracker_pair.look(settings.firecracker, settings.jailer),
        own_redis=settings.redis_url is None,
        sealing=_sealing(settings) if root else None,
        damaged_aof=_damaged_aof(settings) if root else None,
        installation=_installation(settings),
    )


def _version(tool: Tool) -> str | None:
    """Return the version that a tool says it has, ``installed`` where it cannot be asked, None without it."""
    try:
        path = find_tool(tool.name)
    except ToolFailedError:
        return None
    if not tool.ask:
        return "installed"
    try:
        said = run((path, *tool.ask), deadline_s=_ASK_DEADLINE_S, good=range(256))
    except ToolFailedError:
        return "installed"
    found = _VERSION.search((said.stdout + said.stderr).decode(errors="replace"))
    return found.group() if found else "installed"


def _succeeds(tool: str, *arguments: str) -> bool:
    try:
        run((find_tool(tool), *arguments), deadline_s=_ASK_DEADLINE_S)
    except ToolFailedError:
        return False
    return True


def _has_bridges() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCGIFBR, (ctypes.c_ulong * 3)(0, 0, 0))
        except OSError:
            return False
    return True


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _kvm(paths: HostPaths) -> KvmFacts:
    found = KVM.stat() if KVM.exists() else None
    usable = found is not None and groups_needed(found) is not None
    return KvmFacts(found is not None, usable, _kvm_verdict(paths.accelerator))


def _kvm_verdict(path: Path) -> tuple[bool, str] | None:
    """Return what the probe boot found, if that was since the machine's last start."""
    try:
        verdict = Verdict.model_validate_json(path.read_bytes())
    except (FileNotFoundError, PermissionError, ValidationError):
        return None
    if verdict.boot_id != boot_id():
        return None
    return verdict.works, verdict.reason


def _disk(paths: HostPaths) -> DiskFacts:
    there = next(path for path in (paths.state, *paths.state.parents) if path.is_dir())
    return DiskFacts(
        directory=str(paths.state),
        file_system=_file_system(there),
        free_mib=shutil.disk_usage(there).free // 2**20,
        reflink=disk_backend.can_reflink(paths),
    )


def _file_system(directory: Path) -> str:
    """Return the type of the file system that a directory is on, as the mount table names it."""
    real = directory.resolve()
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, kind, *_ = line.split()
        if real.is_relative_to(mount_point) and len(mount_point) >= len(best[0]):
            best = (mount_point, kind)
    return best[1]


def _names(settings: Settings) -> NamesFacts:
    address = name_server.gateway(settings)
    said = name_server.ask_mark(address)
    answers: Literal["farm", "other", "nobody"] = "other"
    if said in (None, name_server.mark(settings)):
        answers = "nobody" if said is None else "farm"
    known_here: bool | None = answers == "farm" and _finds(name_server.MARK, str(address))
    if not known_here and not _carries(BRIDGE):
        known_here = None
    return NamesFacts(settings.names, str(address), answers, known_here)


def _carries(interface: str) -> bool:
    """Tell whether an interface is up, and has somebody on it."""
    asked = interface.encode().ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            said = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, asked)
        except OSError:
            return False
    return bool(int.from_bytes(said[16:18], sys.byteorder) & _IFF_RUNNING)


def _finds(name: str, address: str) -> bool:
    """Tell whether programs here find the name, whoever their C library asks for it."""
    try:
        said = run((find_tool("getent"), "ahostsv4", name), deadline_s=_LOOKUP_S)
    except ToolFailedError:
        return False
    return said.stdout.decode().startswith(f"{address} ")


def _farm(settings: Settings) -> tuple[RedisFacts, dict[str, bool]]:
    queues = (CONTROL, work_queue(settings.host), root_queue(settings.host))
    try:
        client: Any = connect(settings.redis(), answer_s=_ANSWER_S)
        version = _server_version(client)
        records = Records(client)
        served = {queue: records.serving(queue) for queue in queues}
    except BangerError as error:
        redis = RedisFacts(problem=f"{error.brief}: {error.details}".rstrip(": "), remedy=error.resolution)
        return redis, dict.fromkeys(queues, False)
    return RedisFacts(
        version=version,
        policy=_configured(settings, "maxmemory-policy"),
        append_only=_configured(settings, "appendonly"),
        seat_taken=_seat_taken(settings, records),
    ), served


def _seat_taken(settings: Settings, records: Records) -> tuple[str, str] | None:
    """Return which other machine serves under this host's name, and what to do; None where none does."""
    try:
        taken = refused(settings.host, settings.paths, records.seat(settings.host))
    except OSError:
        return None  # this machine was never given an id: it has served nobody yet
    return (f"{taken.brief}: {taken.details}", taken.resolution) if taken else None


def _trouble(settings: Settings) -> tuple[str, ...]:
    """Return what asks for somebody to look at it."""
    try:
        records = Records(connect(settings.redis(), answer_s=_ANSWER_S))
        everyone = records.all()
        found = {host: records.inventory(host) for host in {one.host for one in everyone}}
        names = {one.id: one.name for one in everyone}
        disks = [vm for one in found.values() if one for vm in one.vms if vm.overlay and vm.overlay.level]
        running = {one.id for one in everyone if one.state is State.RUNNING and one.job is None}
        unkept = [vm for one in found.values() if one for vm in one.vms if vm.alive and not vm.kept]
        failed = [one for one in everyone if one.state in (State.ERROR, State.LOST)]
        late = [job for job in records.jobs() if (due := deadline_at(job)) is not None and due < time.time()]
    except BangerError:
        return ()  # that Redis has just gone is said by the next run
    return (
        *(f"VM {one.called} is {one.state}" for one in failed),
        *(f"VM {names.get(vm.vm_id, vm.vm_id)}'s system disk: {vm.overlay}" for vm in disks),
        *(f"VM {names[vm.vm_id]}: {UNKEPT}" for vm in unkept if vm.vm_id in running),
        *(f"job {job.id} ({job.pipeline}) is overdue" for job in late),
    )


def _strange(settings: Settings) -> tuple[str, ...]:
    """Return what root finds on this host that is called like ours and is no VM's, in words."""
    try:
        found = Records(connect(settings.redis(), answer_s=_ANSWER_S)).inventory(settings.host)
    except BangerError:
        return ()
    if found is None:
        return ()
    return (
        *(f"{one.kind} {one.name}" for one in found.strays),
        *(f"{one.kind} {one.name} (not made by us)" for one in found.foreign),
    )


def _sealing(settings: Settings) -> str | None:
    """Return why root would refuse what this host's worker asks, empty where it would not."""
    policy = farm_paths(settings).policy
    if not policy.exists():
        return None
    try:
        ticket_keys.require_pair(settings.paths, policy, worker_account(settings).pw_uid)
    except BangerError as error:
        return f"{error.brief} {error.details}".replace("\n", " ").strip()
    return ""


def _damaged_aof(settings: Settings) -> tuple[str, str] | None:
    path = damaged_aof(farm_paths(settings).redis)
    try:
        since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
    return str(path), f"{since:%Y-%m-%d %H:%M} UTC"


def _installation(settings: Settings) -> InstallFacts | None:
    try:
        found = control.status(settings)
    except NotFoundError:
        return None
    made = found.manifest
    owner = f", {made.owner}'s" if made.owner else ""
    return InstallFacts(f"{made.version}{owner}: {len(made.services)} services", found.drift, found.loosened)


def _server_version(client: Any) -> str:
    """Return what Redis says of itself when it is greeted, which everybody may."""
    said = client.execute_command("HELLO")
    return str((said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True)))["version"])


def _configured(settings: Settings, name: str) -> str | None:
    """Return a setting of Redis, None where this user may not ask: root may, of the farm's own."""
    try:
        client: Any = connect(settings.redis("admin"))
        return client.config_get(name).get(name)  # type: ignore[no-any-return]
    except Exception:
        return None
