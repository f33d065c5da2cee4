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
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from banger import disk_backend, firecracker_pair, name_server, ticket_keys
from banger.contracts.accelerator import KVM, Verdict, groups_needed
from banger.contracts.boot import boot_id
from banger.contracts.errors import BangerError, NotFoundError, ToolFailedError
from banger.contracts.names import BRIDGE, HostPaths
from banger.doctor import vm_uids
from banger.doctor.facts import (
    TOOLS,
    DiskFacts,
    Facts,
    InstallFacts,
    KvmFacts,
    NamesFacts,
    Tool,
)
from banger.doctor.ownership import ask_owner
from banger.doctor.told import ask_redis
from banger.embedded.account import worker_account
from banger.embedded.paths import farm_paths
from banger.embedded.redis_server import damaged_aof
from banger.images.catalogue import Catalogue
from banger.settings import Settings
from banger.shell import find_tool, run
from banger.system import control

_ASK_DEADLINE_S = 10.0
_LOOKUP_S = 6.0  # of a name: longer than a server that does not answer takes
_VERSION = re.compile(r"\d+\.\d+[\w.]*")
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40  # linux/sockios.h, linux/if.h
_SIOCGIFBR = 0x8940  # linux/sockios.h; with three zeros it asks the bridge module for its version


def gather(settings: Settings) -> Facts:
    """Return the facts of this machine and its farm."""
    root = os.geteuid() == 0
    told = ask_redis(settings)
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
        redis=told.redis,
        served=told.served,
        trouble=told.trouble,
        changed_files=Catalogue(settings.paths).changed(settings.paths.verified) if root else (),
        strange=told.strange,
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
