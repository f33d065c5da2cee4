"""Bring a file of a batch from the host that has it, a piece at a time, each ordered on that host's queue.

A piece goes from Redis as it is read: a large file would be there whole otherwise, and take all its memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from banger.advice import LOOK
from banger.batch.files_left import FileName, Piece
from banger.batch.orders import Fetch
from banger.batch_keys import answer_key
from banger.connection import FarmRedis
from banger.contracts.errors import NotFoundError, UnavailableError
from banger.contracts.names import new_id
from banger.contracts.queues import work_queue

_ANSWER_S = 20.0
_POLL_S = 0.003
_MAX_POLL_S = 0.1


class Fetcher:
    """Asks hosts for files. ``send`` takes a queue and a payload, and orders it there."""

    def __init__(self, client: FarmRedis, send: Callable[[str, dict[str, Any]], None]) -> None:
        self._redis: Any = client
        self._send = send

    def pieces(
        self, host: str, batch: str, file: FileName, index: int = 0, attempt: int = 1, offset: int = 0
    ) -> Iterator[bytes]:
        """Yield a file from ``offset`` bytes on, to its end as it is by then.

        NotFoundError where the host has no such file, UnavailableError where it does not answer.
        """
        while True:
            piece = self.piece(host, batch, file, index, attempt, offset)
            if piece.size is None:
                raise NotFoundError(f"host {host} has no {file} of job {index} of batch {batch}")
            if not piece.data:
                return
            yield piece.data
            offset += len(piece.data)

    def piece(
        self, host: str, batch: str, file: FileName, index: int = 0, attempt: int = 1, offset: int = 0
    ) -> Piece:
        """Return one piece. UnavailableError where the host does not answer."""
        order = Fetch(answer=new_id(), batch=batch, index=index, attempt=attempt, file=file, offset=offset)
        self._send(work_queue(host), order.model_dump(mode="json"))
        deadline, pause_s = time.monotonic() + _ANSWER_S, _POLL_S
        while (text := self._redis.getdel(answer_key(order.answer))) is None:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"host {host} does not answer", details=f"it was asked for {file}", resolution=LOOK
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_POLL_S)
        return Piece.model_validate_json(text)
