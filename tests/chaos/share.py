"""What one of several farms does of a run."""

from __future__ import annotations

import zlib
from typing import NamedTuple


class Share(NamedTuple):
    """The farm with this ``number``, from 0, ``of`` so many. What it does follows from these alone."""

    number: int
    of: int

    def has(self, title: str) -> bool:
        """Tell whether a cell is this farm's: by its title, for no farm knows what others have counted."""
        return zlib.crc32(title.encode()) % self.of == self.number

    def part(self, count: int) -> int:
        """Return how many of so many kills are this farm's."""
        return count // self.of + (self.number < count % self.of)


WHOLE = Share(0, 1)
