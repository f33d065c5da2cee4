"""The front's side of the spool: files that it leaves for this host's worker, who shares its group."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from banger.contracts.errors import InvalidInputError

_MODE = 0o640


def new_file(path: Path, brief: str, resolution: str) -> BinaryIO:
    """Open a new file that the worker is to read; InvalidInputError where this user may not."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except OSError as error:
        raise InvalidInputError(
            brief, details=f"{path.parent}: {error.strerror}", resolution=resolution
        ) from None
    os.fchmod(descriptor, _MODE)  # whatever the umask: the worker, of the spool's group, is to read it
    return os.fdopen(descriptor, "wb")
