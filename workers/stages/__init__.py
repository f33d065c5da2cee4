"""The unprivileged stages, one file each, and the table by which the runner finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from banger.contracts.queues import Direction
from workers.stages import (
    collect,
    file_sync,
    grow_work_disk,
    guest_shutdown,
    overlay,
    reserve,
    upload,
    wait_ready,
    work,
    work_disk,
)
from workers.stages import exec as exec_

# Given the request and a StageContext. ``update_spec`` is not here: it is given the records instead.
EFFECTS: dict[tuple[str, Direction], Callable[..., dict[str, Any] | None]] = {
    ("reserve", "undo"): reserve.undo,
    ("overlay", "do"): overlay.do,
    ("overlay", "undo"): overlay.undo,
    ("work_disk", "do"): work_disk.do,
    ("work_disk", "undo"): work_disk.undo,
    ("grow_work_disk", "do"): grow_work_disk.do,
    ("wait_ready", "do"): wait_ready.do,
    ("file_sync", "do"): file_sync.do,
    ("exec", "do"): exec_.do,
    ("guest_shutdown", "do"): guest_shutdown.do,
}

# Given the request and a BatchContext.
BATCH_EFFECTS: dict[tuple[str, Direction], Callable[..., dict[str, Any] | None]] = {
    ("upload", "do"): upload.do,
    ("work", "do"): work.do,
    ("collect", "do"): collect.do,
}
