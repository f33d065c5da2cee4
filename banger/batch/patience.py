"""Ask Redis, and again while it is away for a moment: a batch goes on meanwhile, and so does its follower."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from banger.connection import is_away
from banger.contracts.errors import UnavailableError

if TYPE_CHECKING:
    from banger.batch.client import BatchClient, Change

T = TypeVar("T")

AWAY_S = 60.0  # a Redis that is restarted is back in far less
_PAUSE_S = 0.2


def patiently(ask: Callable[[], T], away_s: float = AWAY_S) -> T:
    """Return what ``ask`` returns, asked again while Redis is away, for ``away_s`` seconds at most."""
    deadline = time.monotonic() + away_s
    while True:
        try:
            return ask()
        except UnavailableError as error:
            if not is_away(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)


class Following:
    """A batch's changes as they come, to its end; ``away`` tells that Redis is not there just now."""

    def __init__(self, batches: BatchClient, batch: str, after: str) -> None:
        self._batches = batches
        self._batch = batch
        self._after = after
        self.away = False

    def changes(self) -> Iterator[Change | None]:
        """Yield each change; None while nothing changes. UnavailableError once Redis stays away."""
        away_since: float | None = None
        while True:
            try:
                for change in self._batches.follow(self._batch, self._after):
                    self.away, away_since = False, None
                    self._after = change.id if change else self._after
                    yield change
            except UnavailableError as error:
                if not is_away(error):
                    raise
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_S:
                    error.details += (
                        f"\nthe batch goes on when it is back; `banger batch attach {self._batch}` shows it"
                    )
                    raise
                self.away = True
                yield None
                time.sleep(_PAUSE_S)
            else:
                return
