"""Which of a guest's files a plan means: globs with ``**``, matched in time that the names cannot stretch.

The guest lists its files, and we choose among them: its shell knows no ``**``, and is not asked to. The names
are a stranger's, so nothing here backtracks: a path is matched part by part.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence

from banger.contracts.errors import InvalidInputError

MAX_PATTERNS = 200
MAX_PATTERN = 1024
_ANY_DEPTH = "**"
_WILDCARDS = frozenset("*?[")


def check_glob(pattern: str) -> str:
    """Return the pattern without ``./`` before it and ``/`` behind it.

    InvalidInputError when it is empty, too long, absolute, climbs by ``..``, or has a control character.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts or len(pattern) > MAX_PATTERN or re.search(r"[\x00-\x1f\x7f]", pattern):
        raise InvalidInputError(
            f"{pattern[:80]!r} is no pattern: empty, too long, or with control characters"
        )
    if pattern.startswith("/") or ".." in parts:
        raise InvalidInputError(
            f"the pattern {pattern!r} leads out of the directory",
            resolution="Name what is below the working directory, relative to it.",
        )
    return "/".join(parts)


class Globs:
    """Some patterns as one question.

    ``*``, ``?`` and ``[...]`` stay within one part of a path and match names with a leading dot too; ``**``
    is any number of directories, none included. A pattern that ends without a wildcard, or in ``/``, also
    means everything below the directory of that name.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MAX_PATTERNS:
            raise InvalidInputError(f"{len(patterns)} patterns; {MAX_PATTERNS} are allowed")
        self._patterns = tuple(_compile(pattern) for pattern in patterns)

    def matches(self, name: str) -> bool:
        """Tell whether any of the patterns means this relative path (``a/b.xml`` or ``./a/b.xml``)."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        return bool(parts) and any(_matches(pattern, parts) for pattern in self._patterns)

    def select(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the names that are meant, each once, in order."""
        return tuple(name for name in dict.fromkeys(names) if self.matches(name))


_Part = re.Pattern[str] | None  # None: any number of directories


def _compile(pattern: str) -> tuple[_Part, ...]:
    parts = check_glob(pattern).split("/")
    below = pattern.endswith("/") or not _WILDCARDS & set(parts[-1])
    compiled: list[_Part] = []
    for part in (*parts, _ANY_DEPTH) if below else parts:
        if part != _ANY_DEPTH:
            compiled.append(re.compile(fnmatch.translate(part)))
        elif not compiled or compiled[-1] is not None:
            compiled.append(None)
    return tuple(compiled)


def _matches(pattern: Sequence[_Part], parts: Sequence[str]) -> bool:
    """Follow all the ways through the pattern at once: ``alive`` are the places that a match may be at."""
    alive = _past_any_depth(pattern, {0})
    for part in parts:
        after = set()
        for place in alive:
            if place == len(pattern):
                continue
            wanted = pattern[place]
            if wanted is None:
                after.add(place)
            elif wanted.match(part):
                after.add(place + 1)
        alive = _past_any_depth(pattern, after)
        if not alive:
            return False
    return len(pattern) in alive


def _past_any_depth(pattern: Sequence[_Part], places: set[int]) -> set[int]:
    """Add the places that are reached where ``**`` stands for no directory at all."""
    return places | {place + 1 for place in places if place < len(pattern) and pattern[place] is None}
