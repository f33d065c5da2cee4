"""What was uploaded for a batch, on the disk of each host that has use for it, while the batch is known.

The front leaves it in the spool of the host where it was submitted, which is memory; the first who wants it
there puts it on the disk, and other hosts' workers ask that host for it.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import IO, TYPE_CHECKING
from weakref import WeakValueDictionary

from banger.batch.files_left import PIECE_BYTES, uploaded, uploaded_spooled
from banger.contracts.names import new_id
from workers.spool import open_left

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from banger.batch.fetching import Fetcher
    from workers.host import WorkHost

# A batch's jobs bring its upload here once. Another batch's need not wait for a host that does not answer.
_locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()


def open_upload(host: WorkHost, batch: str, home: str, fetcher: Fetcher) -> IO[bytes]:
    """Open the upload, brought here first where it is not here yet.

    StageFailedError or NotFoundError where it is nowhere (any more), UnavailableError where its host is away.
    """
    here = uploaded(host.paths, batch)
    with _locks.setdefault(batch, threading.Lock()):
        if not here.exists() and home == host.name:
            with open_left(uploaded_spooled(host.paths, batch)) as left:
                _write(here, iter(partial(left.read, PIECE_BYTES), b""))
        elif not here.exists():
            _write(here, fetcher.pieces(home, batch, "upload.tar"))
    return here.open("rb")


def _write(here: Path, pieces: Iterable[bytes]) -> None:
    here.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = here.with_name(f".upload-{new_id()}")
    try:
        with scratch.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        scratch.rename(here)
    finally:
        scratch.unlink(missing_ok=True)
