"""The shapes of what a YAML file may say: each is read from nodes, and tells editors of itself.

What a value may be at most is the models' business (`plan.py`), which the schema repeats for editors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from banger.batch.document import Place, place_of
from banger.batch.reading import MISSING, YAML, Loc, Reading, Schema, Shape, close_to, did_you_mean
from banger.contracts.errors import InvalidInputError

_SCALAR: Schema = {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True)
class Text:
    """Any scalar, as it is written: 3.10 is "3.10", and on is "on"."""

    strictly: bool = False
    """Editors should ask for a string, though a number would be taken as it is written."""

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return the text."""
        if not isinstance(node, yaml.ScalarNode):
            return reading.complain(loc, "must be text")
        if not node.value and node.style is None:
            return reading.complain(loc, 'has no value; an empty one is written ""')
        if any("\ud800" <= char <= "\udfff" for char in node.value):
            return reading.complain(loc, "has a surrogate, which is half of a character")
        return node.value

    def schema(self) -> Schema:
        """A string, or what YAML takes for something else."""
        return {"type": "string"} if self.strictly else dict(_SCALAR)


@dataclass(frozen=True)
class Parsed:
    """A scalar that a parser makes a number of: a size or a time."""

    parse: Callable[[str], float]
    pattern: str

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return the number."""
        text = Text().read(reading, node, loc, words)
        if text is MISSING:
            return MISSING
        try:
            return self.parse(text)
        except InvalidInputError as error:
            return reading.complain(loc, f"{error.brief}. {error.resolution}".lstrip())

    def schema(self) -> Schema:
        """A bare number or a text with units."""
        return {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": self.pattern}]
        }


@dataclass(frozen=True)
class Integer:
    """A whole number, in decimal digits."""

    least: int
    most: int

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return the number; whether it is in range, the model says."""
        is_number = isinstance(node, yaml.ScalarNode) and node.style is None
        if not is_number or not re.fullmatch(r"[+-]?[0-9]{1,18}", node.value):
            return reading.complain(loc, "must be a whole number")
        return int(node.value)

    def schema(self) -> Schema:
        """A number with its range."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Boolean:
    """True or false, as YAML spells them."""

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return which."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != f"{YAML}bool":
            return reading.complain(loc, "must be true or false")
        return node.value.lower() in ("true", "yes", "on")

    def schema(self) -> Schema:
        """A boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return the word."""
        text = Text().read(reading, node, loc, words)
        if text is MISSING or text in self.words:
            return text
        return reading.complain(
            loc, f"must be one of {', '.join(self.words)}{did_you_mean(text, self.words)}"
        )

    def schema(self) -> Schema:
        """The words."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Many:
    """A list of texts; a single text is a list of one, where that reads well."""

    least: int
    most: int
    one_will_do: bool = True
    item: Shape = Text(strictly=True)

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return the items."""
        if isinstance(node, yaml.SequenceNode):
            items = [
                reading.read(self.item, child, (*loc, index), words) for index, child in enumerate(node.value)
            ]
            return [item for item in items if item is not MISSING]
        if self.one_will_do and isinstance(node, yaml.ScalarNode):
            text = self.item.read(reading, node, loc, words)
            return MISSING if text is MISSING else [text]
        return reading.complain(loc, "must be a list")

    def schema(self) -> Schema:
        """An array, or its only item."""
        item = self.item.schema()
        array = {"type": "array", "items": item, "minItems": self.least, "maxItems": self.most}
        return {"anyOf": [item, array]} if self.one_will_do else array


@dataclass(frozen=True)
class MapOf:
    """A mapping whose keys are the user's own."""

    value: Shape
    key_pattern: str

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return the mapping."""
        if not isinstance(node, yaml.MappingNode):
            return reading.complain(loc, "must be a mapping, of lines like `NAME: value`")
        found = {}
        for key, key_node, value_node in reading.entries(node, loc, words):
            value = reading.read(self.value, value_node, (*loc, key), f"{words}.{key}")
            reading.note_key(key_node, (*loc, key), f"{words}.{key}")
            if value is not MISSING:
                found[key] = value
        return found

    def schema(self) -> Schema:
        """An object with any keys of the pattern."""
        return {
            "type": "object",
            "propertyNames": {"pattern": self.key_pattern},
            "additionalProperties": self.value.schema(),
        }


@dataclass(frozen=True)
class Key:
    """A key that we know: its name in the file, the model's name for it, and what to say of it."""

    name: str
    target: str
    shape: Shape
    about: str
    examples: tuple[Any, ...] = ()
    default: Any = None
    needed: bool = False

    def schema(self) -> Schema:
        """Return the shape's schema with a description, examples and the default."""
        extra: Schema = {"description": self.about}
        if self.examples:
            extra["examples"] = list(self.examples)
        if self.default is not None:
            extra["default"] = self.default
        return self.shape.schema() | extra


@dataclass(frozen=True)
class Mapping:
    """A mapping with the keys that we know and no others."""

    keys: tuple[Key, ...]

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        """Return the model's data, under the model's names."""
        if not isinstance(node, yaml.MappingNode):
            return reading.complain(loc, f"must be a mapping, of {', '.join(key.name for key in self.keys)}")
        known = {key.name: key for key in self.keys}
        found = {}
        for name, key_node, value_node in reading.entries(node, loc, words):
            path = f"{words}.{name}" if words else name
            if name not in known:
                self._complain_of(name, reading, place_of(key_node.start_mark), loc, path)
                continue
            value = reading.read(known[name].shape, value_node, (*loc, known[name].target), path)
            if value is not MISSING:
                found[known[name].target] = value
        return found

    def schema(self) -> Schema:
        """An object that is closed."""
        needed = [key.name for key in self.keys if key.needed]
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {key.name: key.schema() for key in self.keys},
        } | ({"required": needed} if needed else {})

    def _complain_of(self, name: str, reading: Reading, place: Place, loc: Loc, path: str) -> None:
        for key in self.keys:  # a memory: at the top was meant for the vm:
            if isinstance(key.shape, Mapping) and name in {inner.name for inner in key.shape.keys}:
                why = f"{path}: there is no such key; did you mean `{key.name}: {{{name}: …}}`?"
                reading.complain_at(place, (*loc, name), why)
                return
        names = {key.name: key.target for key in self.keys}
        reading.complain_at(place, (*loc, name), f"{path}: there is no such key{did_you_mean(name, names)}")
        for close in close_to(name, names):  # that it is missing then goes without saying
            reading.complained_of.add((*loc, names[close]))
