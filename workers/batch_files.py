"""What batches left on this host goes when they are not known any more."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING

from banger.contracts.names import is_id

if TYPE_CHECKING:
    from banger.batch.store import Batches
    from banger.contracts.names import HostPaths

_GRACE_S = 3600.0  # so that a Redis that has forgotten, and is told again, costs nobody a night's logs


def sweep_batches(paths: HostPaths, batches: Batches) -> None:
    """Remove the directories of batches that Redis does not know; nothing where it cannot be asked."""
    with contextlib.suppress(FileNotFoundError):
        for directory in paths.batches.iterdir():
            if not is_id(directory.name) or batches.get(directory.name) is not None:
                continue
            if time.time() - directory.lstat().st_mtime > _GRACE_S:
                shutil.rmtree(directory, ignore_errors=True)
    batches.forget_expired()
