"""Notice that a process has died which may have taken messages with it: root's worker, or Redis."""

from __future__ import annotations

from typing import NamedTuple


class Processes(NamedTuple):
    """Who lives: Redis by its run id, root's worker by its incarnation, None while nothing is known of it."""

    redis: str
    root: str | None


NOBODY = Processes("", None)


class Rings:
    """Remembers who lived when all jobs were rung last. Our own death is told by a first time."""

    def __init__(self) -> None:
        self._known = NOBODY

    def due(self, living: Processes) -> bool:
        """Tell whether either is another process than then; yes, the first time."""
        known = self._known
        another_root = known.root is not None and living.root not in (None, known.root)
        return known.redis != living.redis or another_root

    def rung(self, living: Processes) -> None:
        """Note who lives: a look that only looks, or that ended early, has rung nobody."""
        self._known = Processes(living.redis, living.root or self._known.root)
