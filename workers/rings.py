"""Notice that a process has died which may have taken messages with it: root's worker, or Redis."""

from __future__ import annotations


class Rings:
    """Remembers who lived when it was asked last. Our own death is told by a first time."""

    def __init__(self) -> None:
        self._redis = self._root = ""

    def due(self, redis: str, root: str | None) -> bool:
        """Tell whether either is another process than before; yes, the first time.

        Root's is None while nothing is known of it.
        """
        known = (self._redis, self._root)
        self._redis, self._root = redis, root or self._root
        return known[0] != redis or known[1] not in ("", self._root)
