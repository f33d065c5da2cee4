"""Stage ``grow_work_disk``: a larger /root for a stopped VM. It only grows, so there is nothing to undo."""

from __future__ import annotations

from banger.contracts.errors import InvalidInputError, NotFoundError
from banger.contracts.requests import GrowWorkDiskRequest
from banger.contracts.sizes import format_mib
from workers.ext4_size import grow
from workers.host import StageContext

_MIB = 1024 * 1024


def do(request: GrowWorkDiskRequest, ctx: StageContext) -> None:
    """Grow the disk; the same size again finishes what a kill interrupted. InvalidInputError to shrink."""
    disk = ctx.host.paths.work_disk(request.vm_id)
    if not disk.exists():
        raise NotFoundError(
            f"VM {request.vm_id} has no work disk", resolution="Start the VM once: it makes one."
        )
    size = request.disk_mib * _MIB
    current = disk.stat().st_size
    if size < current:
        raise InvalidInputError(
            "A work disk only grows",
            details=f"it has {format_mib(current // _MIB)}, {format_mib(request.disk_mib)} was asked for",
            resolution="Ask for more, or make a new VM.",
        )
    grow(disk, size)
