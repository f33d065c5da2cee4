"""The privileged stages, one file each: policy asked again, do, undo. The table is all that root does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from banger.contracts.queues import Direction
from root_worker.stages import admit, attach_system_disk, launch, patch_rootfs, tap

EFFECTS: dict[tuple[str, Direction], Callable[..., dict[str, Any] | None]] = {
    ("admit", "do"): admit.do,
    ("admit", "undo"): admit.undo,
    ("attach_system_disk", "do"): attach_system_disk.do,
    ("attach_system_disk", "undo"): attach_system_disk.undo,
    ("patch_rootfs", "do"): patch_rootfs.do,
    ("tap", "do"): tap.do,
    ("tap", "undo"): tap.undo,
    ("launch", "do"): launch.do,
    ("launch", "undo"): launch.undo,
}
