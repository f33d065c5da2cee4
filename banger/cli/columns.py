"""Tables for people and for ``awk``: aligned columns, no lines, nothing cut off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer

from banger.cli.failure import printable

_GAP = "   "


def columns(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return heading and rows as aligned text; an empty cell is a dash, so that fields can be counted."""
    table = [list(heading), *([printable(str(cell)).strip() or "-" for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in table) for n in range(len(heading))]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def pairs(rows: Sequence[tuple[str, object]]) -> str:
    """Return names and values as aligned lines; values of several lines are indented."""
    width = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, value in rows:
        first, *more = printable(str(value)).splitlines() or ["-"]
        lines.append(f"{name + ':':<{width}}{first}")
        lines += [f"{'':<{width}}{line}" for line in more]
    return "\n".join(lines)


def print_json(value: Any) -> None:
    """Print plain data as JSON for other programs."""
    typer.echo(json.dumps(value, indent=2))
