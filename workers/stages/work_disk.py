"""Stage ``work_disk``: the disk that the guest sees as /root.

Four ways, in this order: the one that is there is kept; the image's seed is cloned; cloned and grown; or,
where the image has no seed, the disk is made fresh.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from banger.contracts.errors import InvalidInputError
from banger.contracts.ext4 import Directory, File, look, put
from banger.contracts.requests import UndoRequest, WorkDiskRequest
from banger.contracts.sizes import format_mib
from banger.images.ext4 import MKFS_OPTIONS
from banger.shell import find_tool, run
from workers.debugfs import worker_debugfs
from workers.ext4_size import grow
from workers.host import StageContext
from workers.new_file import new_file

_MIB = 1024 * 1024
_CLONE_DEADLINE_S = 80
_MKFS_DEADLINE_S = 60

Way = Literal["kept", "cloned", "grown", "fresh"]


def do(request: WorkDiskRequest, ctx: StageContext) -> dict[str, Any]:
    """Make the disk unless it is there. InvalidInputError, with nothing written, when too small."""
    paths = ctx.host.paths
    disk = paths.work_disk(request.vm_id)
    if disk.exists():
        return {"work_disk": "kept"}
    seed = paths.work_seed(request.image)
    size = request.disk_mib * _MIB
    way = _choose(seed, size)
    admitted = paths.identity.with_suffix(".pub").read_bytes()
    if paths.owner_key.exists():
        admitted += paths.owner_key.read_bytes()
    with new_file(disk, 0o660) as scratch:
        if way == "fresh":
            _make(scratch, size)
        else:
            _clone(seed, scratch)
        if way == "grown":
            grow(scratch, size)
        _authorize(scratch, admitted)
    return {"work_disk": way}


def undo(request: UndoRequest, ctx: StageContext) -> None:
    """Remove the disk; forgives exactly its absence."""
    ctx.host.paths.work_disk(request.vm_id).unlink(missing_ok=True)


def _choose(seed: Path, size: int) -> Way:
    if not seed.exists():
        return "fresh"
    seed_size = seed.stat().st_size
    if size < seed_size:
        smallest = -(-seed_size // _MIB)
        raise InvalidInputError(
            f"A work disk of {format_mib(size // _MIB)} is smaller than its seed, {format_mib(smallest)}",
            resolution=f"Ask for --disk {format_mib(smallest)} or more.",
        )
    return "grown" if size > seed_size else "cloned"


def _make(disk: Path, size: int) -> None:
    disk.touch()
    os.truncate(disk, size)
    run((find_tool("mkfs.ext4"), *MKFS_OPTIONS, str(disk)), deadline_s=_MKFS_DEADLINE_S)


def _clone(seed: Path, disk: Path) -> None:
    """Share the seed's blocks where the file system can; copy its data, not its holes, where it cannot.

    Not the mode: nobody may write to a seed, and its copy is written to next.
    """
    run(
        (find_tool("cp"), "--reflink=auto", "--sparse=auto", "--no-preserve=mode", str(seed), str(disk)),
        deadline_s=_CLONE_DEADLINE_S,
    )


def _authorize(disk: Path, public_keys: bytes) -> None:
    """Let the farm's key in, and its owner's. The disk's root is the guest's /root: sshd refuses lax ones.

    For good: once a guest has run, its disk is not opened any more.
    """
    debugfs = worker_debugfs(disk)
    keys = File("/.ssh/authorized_keys", public_keys, 0o600)
    put([Directory("/", 0o700), Directory("/.ssh", 0o700)], [keys], look(["/", keys.path], debugfs), debugfs)
