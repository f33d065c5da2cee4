"""The stages that a batch's jobs are in, noted while it is watched: no more than decoration."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from banger.contracts.errors import BangerError, UnavailableError

if TYPE_CHECKING:
    from banger.cli.batch.board import Board
    from banger.farm import Farm

_AWAY_PAUSE_S = 1.0


@contextlib.contextmanager
def stages_noted(farm: Farm, board: Board) -> Iterator[None]:
    """Have the farm's events noted on the board, as long as the block lasts."""
    over = threading.Event()
    threading.Thread(target=_note, args=(farm, board, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _note(farm: Farm, board: Board, over: threading.Event) -> None:
    """Note events until it is over. What cannot be read is not shown."""
    after = "$"
    for job in board.at_work():
        with contextlib.suppress(BangerError):
            board.was_at(job, farm.job(job.job or "").stage)
    while not over.is_set():
        try:
            for event in farm.events.follow(after=after):
                if event is not None:
                    after = event.id
                    board.event(event)
                if over.is_set():
                    return
        except UnavailableError:
            over.wait(_AWAY_PAUSE_S)
        except BangerError:
            return
