"""Grow an ext4 in a file. Both steps may be repeated: after a kill in between, the next call finishes."""

from __future__ import annotations

import os
from pathlib import Path

from banger.shell import find_tool, run

_DEADLINE_S = 80
_CORRECTED = (0, 1)  # of e2fsck: 1 says that it has mended something


def grow(disk: Path, size: int) -> None:
    """Make the file ``size`` bytes long and its file system fill it; ToolFailedError when it is damaged."""
    os.truncate(disk, size)
    run((find_tool("e2fsck"), "-f", "-p", str(disk)), deadline_s=_DEADLINE_S, good=_CORRECTED)
    run((find_tool("resize2fs"), str(disk)), deadline_s=_DEADLINE_S)
