"""Keep the spool clean: files that the owner left for a job go when the job has ended."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from banger.contracts.names import is_id

if TYPE_CHECKING:
    from banger.records import Records
    from workers.host import WorkHost

_UNKNOWN_S = 600.0  # a job whose message is still on its way is not known yet; one that was refused never is
_GOING_ON = ("running", "unwinding")


def sweep(host: WorkHost, records: Records) -> None:
    """Look once at everything in the spool. What is no file of one name is left to whoever made it."""
    with contextlib.suppress(FileNotFoundError):
        for path in host.paths.spool.iterdir():
            job = records.job(path.stem) if is_id(path.stem) else None
            with contextlib.suppress(OSError):
                age_s = time.time() - path.lstat().st_mtime
                if (job is not None and job.state not in _GOING_ON) or (job is None and age_s > _UNKNOWN_S):
                    path.unlink()
