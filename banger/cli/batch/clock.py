"""The time by Redis' clock, which the times of jobs are told by; a machine's own may be wrong."""

from __future__ import annotations

import time


class Clock:
    """This machine's time, until an event that has just come tells Redis'."""

    def __init__(self) -> None:
        self._ahead_s = time.time() - time.monotonic()
        self._heard = False

    def heard(self, event_id: str) -> None:
        """Set the clock by the id of an event that has just come: it begins with Redis' milliseconds.

        Events may come late, and never too early, so the one that came fastest counts.
        """
        ahead_s = int(event_id.partition("-")[0]) / 1000 - time.monotonic()
        self._ahead_s = max(self._ahead_s, ahead_s) if self._heard else ahead_s
        self._heard = True

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.monotonic() + self._ahead_s
