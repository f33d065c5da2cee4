"""Stage ``overlay``: the VM's SSH host key, and the file for its changes, in the directory that is there.

That file is the whole system disk, a clone of the image's root file system, or, for dm-snapshot, nothing but
a hole for the kernel to fill: root tells them apart by that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from banger.contracts.errors import InvalidInputError, StageFailedError, disk_is_full
from banger.contracts.names import link_alias
from banger.contracts.requests import OverlayRequest, UndoRequest
from banger.contracts.sizes import format_mib
from banger.images.catalogue import Catalogue
from banger.shell import find_tool, run
from workers.console import make_console
from workers.host import StageContext
from workers.new_file import new_file

_MIB = 1024 * 1024
_CLONE_DEADLINE_S = 100
_CLONE_OPTIONS = {"reflink": ("--reflink=always",), "copy": ("--reflink=never", "--sparse=always")}


def do(request: OverlayRequest, ctx: StageContext) -> None:
    """Make what is missing. An overlay that is there is kept, whoever owns it by now.

    StageFailedError where the VM has no directory: it was deleted while this stage was held up.
    """
    paths = ctx.host.paths
    Catalogue(paths).verify(request.image, paths.verified)
    directory = paths.vm(request.vm_id)
    if not directory.is_dir():
        raise StageFailedError(
            f"{directory} is not there",
            details="the VM has been deleted meanwhile, or its directory was removed by hand",
            resolution="Create the VM again.",
        )
    alias = link_alias(request.vm_id)
    public = _make_host_key(paths.host_key(request.vm_id), alias)
    with new_file(paths.known_hosts(request.vm_id), 0o644) as scratch:
        scratch.write_text(f"{alias} {public}\n")
    make_console(paths, request.vm_id)
    overlay = paths.overlay(request.vm_id)
    if not overlay.exists():
        with new_file(overlay, 0o600) as scratch:
            if ctx.host.disk_backend == "dm-snapshot":
                scratch.touch()
                os.truncate(scratch, request.overlay_mib * _MIB)
            else:
                _clone(paths.rootfs(request.image), scratch, ctx.host.disk_backend)


def undo(request: UndoRequest, ctx: StageContext) -> None:
    """Remove the VM's directory with all that is in it; forgives exactly its absence.

    It loses its name first: a stage that comes late finds nothing to write to.
    """
    paths = ctx.host.paths
    for remove in (
        lambda: shutil.rmtree(paths.removed(request.vm_id)),  # begun before, and not ended
        lambda: paths.vm(request.vm_id).rename(paths.removed(request.vm_id)),
        lambda: shutil.rmtree(paths.removed(request.vm_id)),
    ):
        with contextlib.suppress(FileNotFoundError):
            remove()


def _clone(base: Path, disk: Path, backend: str) -> None:
    """Make ``disk`` of the base, its holes kept.

    CapacityError, with both sizes and before anything is written, where a copy would not fit.
    """
    if backend not in _CLONE_OPTIONS:
        raise InvalidInputError(
            f"disk_backend is {backend!r}, which says nothing about this host",
            resolution="`banger farm up` decides that; a worker of yours needs BANGER_DISK_BACKEND.",
        )
    if backend == "copy":
        room = os.statvfs(disk.parent)
        need, free = base.stat().st_blocks * 512, room.f_bavail * room.f_frsize
        if need > free:
            needs = f"a copy of the base image needs {format_mib(need // _MIB)}"
            raise disk_is_full(disk, f"{needs}, {format_mib(free // _MIB)} is free; XFS and btrfs need none")
    argv = (find_tool("cp"), *_CLONE_OPTIONS[backend], "--no-preserve=mode", str(base), str(disk))
    run(argv, deadline_s=_CLONE_DEADLINE_S)


def _make_host_key(key: Path, comment: str) -> str:
    """Make the guest's key pair unless it is there; return the public key, without the comment.

    The private half takes its name last: where it is, the pair is whole.
    """
    public = key.with_name(f"{key.name}.pub")
    if not key.exists():
        pair = Ed25519PrivateKey.generate()
        with new_file(key, 0o600) as scratch, new_file(public, 0o644) as public_scratch:
            scratch.touch(mode=0o600)  # private from its first byte on
            scratch.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            line = pair.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
            public_scratch.write_text(f"{line} {comment}\n")
    kind, material = public.read_text().split()[:2]
    return f"{kind} {material}"
