"""One reading of a YAML file: what it complains of, and where everything stands in it.

Whatever is not as it should be is complained of and reads as MISSING, so that one reading finds all that is
wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

import yaml

from banger.batch.document import MAX_NODES, Place, place_of
from banger.contracts.errors import InvalidInputError

Loc = tuple[str | int, ...]
"""Where a value is in the model's data, as pydantic says it: ``("vm", "memory_mib")``."""
Schema = dict[str, Any]

YAML = "tag:yaml.org,2002:"
_KINDS = ("str", "int", "float", "bool", "null", "timestamp", "value", "merge", "seq", "map")
_PLAIN_TAGS = {f"{YAML}{kind}" for kind in _KINDS}

_MAX_COMPLAINT = 400


class _Missing(Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING


@dataclass
class Reading:
    """One reading of a file: what it complains of, and where each value and key stands."""

    complaints: list[tuple[Place, str]] = field(default_factory=list)
    complained_of: set[Loc] = field(default_factory=set)
    places: dict[Loc, tuple[Place, str]] = field(default_factory=dict)
    _within: list[yaml.Node] = field(default_factory=list)
    _visits: int = 0

    def read(self, shape: Shape, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return what a shape makes of a node; ``words`` is what the file calls it."""
        place = place_of(node.start_mark)
        self.places[loc] = (place, words)
        self._visits += 1
        if self._visits > MAX_NODES:  # each alias is a visit to all that is below it
            raise InvalidInputError(f"the plan has more than {MAX_NODES} values, counting each alias' anew")
        if any(node is outer for outer in self._within):
            return self.complain(loc, "contains itself")
        if node.tag not in _PLAIN_TAGS:
            return self.complain(loc, f"has the tag {node.tag.removeprefix(YAML)}; tags are not read")
        self._within.append(node)
        try:
            return shape.read(self, node, loc, words)
        finally:
            self._within.pop()

    def complain(self, loc: Loc, why: str) -> Any:
        """Complain of what was read at ``loc``."""
        place, words = self.places[loc]
        return self.complain_at(place, loc, f"{words}: {why}" if words else why)

    def complain_at(self, place: Place, loc: Loc, why: str) -> Any:
        """Complain at another place, such as that of a key."""
        self.complaints.append((place, _printable(why)))
        self.complained_of.add(loc)
        return MISSING

    def entries(self, node: yaml.Node, loc: Loc, words: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield key, key's node and value's node of a mapping; a key that comes twice is complained of."""
        seen: dict[str, int] = {}
        for key, value in node.value:
            place = place_of(key.start_mark)
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _PLAIN_TAGS:
                self.complain_at(place, loc, f"{words or 'the plan'}: a key must be text")
            elif key.tag == f"{YAML}merge" and key.style is None:
                self.complain_at(place, (*loc, "<<"), "`<<` is not read: write out what it would put here")
            elif key.value in seen:
                why = f"`{key.value}` is given twice, first on line {seen[key.value]}"
                self.complain_at(place, (*loc, key.value), why)
            else:
                seen[key.value] = place.line
                yield key.value, key, value

    def note_key(self, key: yaml.Node, loc: Loc, words: str) -> None:
        """Remember where the key of a value is: pydantic complains of keys that are the user's own."""
        self.places[(*loc, "[key]")] = (place_of(key.start_mark), words)


class Shape(Protocol):
    """What may stand at some place of the file."""

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return the model's data, or complain and return MISSING."""

    def schema(self) -> Schema:
        """Return the shape in JSON Schema."""


def did_you_mean(word: str, words: Collection[str]) -> str:
    """Return ``; did you mean `run`?`` where one of the words is close, else nothing."""
    return "".join(f"; did you mean `{close}`?" for close in close_to(word, words))


def close_to(word: str, words: Collection[str]) -> list[str]:
    """Return the word that is closest to another, if one is close at all."""
    return difflib.get_close_matches(word[:64], words, n=1, cutoff=0.6)


def _printable(text: str) -> str:
    """Return a text for one line of a terminal: what the file calls its keys is repeated in complaints."""
    cut = text if len(text) <= _MAX_COMPLAINT else f"{text[:_MAX_COMPLAINT]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
