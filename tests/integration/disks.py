"""A host of its own for the disk tests: state directory, policy, an image made of a small tree."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from mountns import private_mounts

from banger.contracts.names import HostPaths
from banger.contracts.policy import Policy
from banger.contracts.requests import (
    AttachSystemDiskRequest,
    GuestFile,
    Mount,
    PatchRootfsRequest,
    UndoRequest,
)
from banger.embedded import vmm_root
from root_worker.host import RootHost, root_host
from root_worker.ops import vm_drives
from workers.host import StageContext, WorkHost

# Any user that every Debian has stands for the worker.
WORKER = pwd.getpwnam("daemon")
VM = "0123456789ab"
IMAGE = "aaaaaaaaaaaa"
SLOT = 7
UID_BASE = 600_000 + os.getpid() % 100_000 * 1000  # what has a VM's uid is killed with it: ours alone
UID = UID_BASE + SLOT
Backend = Literal["auto", "reflink", "copy", "dm-snapshot"]
MIB = 1024 * 1024
FSTAB = "UUID=x / ext4 defaults 0 1\n"
HOST_KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"

FILES = (
    GuestFile(path="/etc/hostname", content="dev\n"),
    GuestFile(path="/etc/resolv.conf", content="nameserver 172.16.0.1\n"),
    GuestFile(path="/etc/ssh/sshd_config.d/99-banger.conf", content="PasswordAuthentication no\n"),
    GuestFile(path="/usr/local/lib/banger/network-up", content="#!/bin/sh\nexit 0\n", mode=0o755),
)
MOUNTS = (Mount(source="/dev/vdb", target="/root", fstype="ext4", options="defaults"),)


def make_host(state: Path) -> RootHost:
    """Return a root host over a new state directory, with the image's directory and the VM's, still empty."""
    policy = Policy.model_validate(
        {
            "host": "here",
            "state_dir": state,
            "run_dir": state / "run",
            "uid_base": UID_BASE,
            "worker_user": WORKER.pw_name,
        }
    )
    state.mkdir(mode=0o711, exist_ok=True)
    for directory in (policy.paths.image(IMAGE), policy.paths.kernels, policy.paths.keys):
        directory.mkdir(parents=True)
    policy.paths.vm(VM).mkdir(parents=True)
    for directory in (policy.paths.vms, policy.paths.vm(VM)):
        directory.chmod(0o711)
        os.chown(directory, WORKER.pw_uid, WORKER.pw_gid)
    return root_host(policy)


def make_rootfs(target: Path, scratch: Path, size_mib: int = 32, fstab: str | None = FSTAB) -> None:
    """Make an ext4 that looks like Debian's root as far as the stages look, owned by root."""
    tree = scratch / "tree"
    for directory in ("etc/ssh", "usr/local/lib", "root", "run"):
        (tree / directory).mkdir(parents=True, exist_ok=True)
    (tree / "etc/hostname").write_text("old\n")
    (tree / "etc/resolv.conf").symlink_to("../run/resolv.conf")
    if fstab is not None:
        (tree / "etc/fstab").write_text(fstab)
    with target.open("wb") as file:
        file.truncate(size_mib * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-d", tree, target], check=True)


def make_worker_files(paths: HostPaths) -> None:
    """Make what the worker's overlay stage leaves for root: a clone of the image, and the host key."""
    subprocess.run(["cp", "--sparse=always", paths.rootfs(IMAGE), paths.overlay(VM)], check=True)
    paths.host_key(VM).write_bytes(HOST_KEY)
    Path(f"{paths.host_key(VM)}.pub").write_bytes(b"ssh-ed25519 AAAA banger\n")
    for file in paths.vm(VM).iterdir():
        os.chown(file, WORKER.pw_uid, WORKER.pw_gid)


def attach_request(generation: int = 1) -> AttachSystemDiskRequest:
    return AttachSystemDiskRequest(vm_id=VM, generation=generation, slot=SLOT, image=IMAGE, overlay_mib=64)


def patch_request(generation: int = 1, files: tuple[GuestFile, ...] = FILES) -> PatchRootfsRequest:
    return PatchRootfsRequest(vm_id=VM, generation=generation, slot=SLOT, files=files, mounts=MOUNTS)


def undo_request(generation: int = 1) -> UndoRequest:
    return UndoRequest(vm_id=VM, generation=generation)


def make_empty_overlay(paths: HostPaths, size_mib: int = 64) -> None:
    """Put what the worker makes for dm-snapshot into the overlay's place: nothing but a hole."""
    overlay = paths.overlay(VM)
    overlay.unlink(missing_ok=True)
    overlay.touch()
    os.truncate(overlay, size_mib * MIB)
    os.chown(overlay, WORKER.pw_uid, WORKER.pw_gid)


@contextmanager
def tools_root(place: Path) -> Iterator[Path]:
    """Yield the root directory that tools see, in this thread's own mount namespace."""
    (place / "kernels").mkdir()
    with private_mounts():
        vmm_root.make(place / "root", place / "kernels")
        yield place / "root"


def ready_host(
    state: Path, scratch: Path, root: Path, *, size_mib: int = 32, fstab: str | None = FSTAB
) -> RootHost:
    """Return a host with an image and all that a worker leaves for root, whose tools see ``root``."""
    host = make_host(state)
    make_rootfs(host.paths.rootfs(IMAGE), scratch, size_mib, fstab)
    make_worker_files(host.paths)
    host.paths.run.mkdir(exist_ok=True)
    host.paths.vmm_root.symlink_to(root)
    return host


def context(paths: HostPaths, backend: Backend = "copy") -> StageContext:
    """Return the surroundings of a worker's stage on the same host."""
    return StageContext(WorkHost("here", paths, IPv4Network("172.16.0.0/24"), UID_BASE, backend))


def debugfs(disk: Path, *commands: str, write: bool = False) -> str:
    """Run debugfs commands as a hostile or a curious guest would."""
    script = "".join(f"{command}\n" for command in commands)
    argv = ["debugfs", *(["-w"] if write else []), "-f", "-", str(disk)]
    return str(subprocess.run(argv, input=script, text=True, capture_output=True, check=True).stdout)


def content(disk: Path, path: str) -> str:
    """Return a file of the disk."""
    return debugfs(disk, f"cat {path}").partition("\n")[2]


def fsck(disk: Path) -> int:
    """Return e2fsck's exit code: 0 when the file system is sound."""
    return subprocess.run(["e2fsck", "-f", "-n", disk], capture_output=True, check=False).returncode


def open_drives(host: RootHost) -> None:
    """Open the VM's drives as a launch does, which hands its work disk to the VM, and close them again."""
    with vm_drives.opened(host, VM, UID):
        return


@contextmanager
def opened(file: Path, size: int = MIB) -> Iterator[int]:
    """Yield a descriptor of a new file of this size."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)
