"""The clock of both workers, and nobody else's, set to another time: ``time.time`` of their processes.

Patched before they import anything else (this file is their ``sitecustomize``), so that Celery and kombu have
it too. libfaketime would change what C asks as well, but a process that is killed leaves its shared memory
behind, and one that changes its user loses it. What counts seconds (the monotonic clock) goes on as
ever, as it does where a machine's clock is set. Standard library only.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

FILE = "BANGER_CHAOS_CLOCK"
_LOOK_S = 0.2


def step(file: Path, seconds: int) -> None:
    """Set the clocks that look there this much ahead of the machine's (seconds, less than 0: behind)."""
    scratch = file.with_suffix(".new")
    scratch.write_text(str(seconds))
    scratch.chmod(0o644)
    scratch.replace(file)


def _set_by(file: Path) -> None:
    real = time.time
    offset, looked = 0, float("-inf")

    def told() -> float:
        nonlocal offset, looked
        if (now := time.monotonic()) - looked > _LOOK_S:
            offset, looked = int(file.read_text()), now
        return real() + offset

    time.time = told


if (_file := os.environ.get(FILE)) is not None:
    _set_by(Path(_file))
