"""A YAML document as a graph of nodes, each with its place, and with bounds on all of it.

Nodes, not values: a value has lost how it was written (3.10 has become 3.1) and where it stood.
"""

from __future__ import annotations

from typing import NamedTuple

import yaml

from banger.contracts.errors import InvalidInputError

MAX_FILE_BYTES = 1024 * 1024
MAX_NODES = 20_000
_MAX_DEPTH = 32


class Place(NamedTuple):
    """Where something stands in a file; lines and columns from 1."""

    line: int
    column: int


def compose(text: bytes, source: str) -> yaml.Node:
    """Return the root of the one document in a text; ``source`` is its name in complaints.

    A node may have itself among its children, where an alias says so; whoever walks has to see to that.
    InvalidInputError, with the place, where it is no YAML, empty, too large, or nested too deep.
    """
    if len(text) > MAX_FILE_BYTES:
        raise InvalidInputError(
            f"{source} is larger than {MAX_FILE_BYTES // 1024} KiB", resolution="Upload what is large."
        )
    composer: _Composer | None = None
    try:
        composer = _Composer(text.decode("utf-8-sig"))
        root = composer.get_single_node()
    except UnicodeDecodeError as error:
        raise _refusal(source, _place(text[: error.start].decode(errors="replace")), "is not UTF-8") from None
    except yaml.reader.ReaderError as error:
        place = _place(text.decode("utf-8-sig")[: error.position])
        raise _refusal(source, place, "has a control character") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(part for part in (error.context, error.problem) if part)
        raise _refusal(source, place_of(mark) if mark else Place(1, 1), why) from None
    except (ValueError, OverflowError):  # the scanner makes a character of any number
        place = place_of(composer.get_mark()) if composer else Place(1, 1)
        raise _refusal(source, place, "has an escape that is no character") from None
    if root is None:
        raise _refusal(source, Place(1, 1), "is empty")
    return root


def place_of(mark: yaml.Mark) -> Place:
    """Return where a mark of the parser's is."""
    return Place(mark.line + 1, mark.column + 1)


class _Composer(yaml.SafeLoader):
    """Stops in time: the composer calls itself for each level, and holds all nodes in memory."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._count = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._count += 1
        if self._count > MAX_NODES or self._depth >= _MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_NODES} values, or nested deeper than {_MAX_DEPTH}",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _place(before: str) -> Place:
    return Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _refusal(source: str, place: Place, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{source} cannot be read as YAML",
        details=f"{source}:{place.line}:{place.column}: {why}",
        resolution="Mend it there.",
    )
