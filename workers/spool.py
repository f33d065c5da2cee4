"""The spool: files that the owner leaves for a job or a batch, read with care, and gone when it has ended."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from banger.batch.files_left import uploaded
from banger.contracts.errors import StageFailedError
from banger.contracts.names import is_id

if TYPE_CHECKING:
    from banger.batch.store import Batches
    from banger.records import Records
    from workers.host import WorkHost

_UNKNOWN_S = 600.0  # one whose message is still on its way is not known yet; one that was refused never is
_RETRY_S = 60.0  # secrets are left before the order that has ended jobs run again
_GOING_ON = ("running", "unwinding")


def open_left(path: Path) -> IO[bytes]:
    """Open what was left; StageFailedError where it is not there, or is no file that the owner has left.

    What this worker can read by its own right, it may not be made to read by another name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StageFailedError(
            "what was left for this job is not there",
            details=f"{path}: {error.strerror}",
            resolution="Ask for it once more.",
        ) from None
    status = os.fstat(descriptor)
    ours = status.st_uid == os.geteuid() != 0
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or ours:
        os.close(descriptor)
        raise StageFailedError(f"{path} is not a file that the owner has left")
    return os.fdopen(descriptor, "rb")


def sweep(host: WorkHost, records: Records, batches: Batches) -> None:
    """Look once at everything in the spool. What is no file of one name is left to whoever made it."""
    with contextlib.suppress(FileNotFoundError):
        for path in host.paths.spool.iterdir():
            with contextlib.suppress(OSError):
                if not _is_wanted(path, host, records, batches):
                    path.unlink()


def _is_wanted(path: Path, host: WorkHost, records: Records, batches: Batches) -> bool:
    """Tell whether a file's job goes on, or its batch; an upload has been wanted once it is on the disk."""
    known, left_at = is_id(path.stem), path.lstat().st_mtime
    if known and (batch := batches.get(path.stem)) is not None:
        if path.suffix != ".secrets":
            return not uploaded(host.paths, batch.id).exists()
        for_retry = left_at > (batch.ended_at or 0.0) and time.time() - left_at <= _RETRY_S
        return batch.state != "ended" or for_retry
    if known and (job := records.job(path.stem)) is not None:
        return job.state in _GOING_ON
    return time.time() - left_at <= _UNKNOWN_S
