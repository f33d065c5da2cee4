"""What pydantic complains of, as lines for people: which field, what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def complaints(error: ValidationError) -> list[str]:
    """Return a line for each field that is not valid: its name, unless it is the whole, and why.

    Not its value: that may be a password, and who gave it knows it.
    """
    lines = []
    for item in error.errors():
        name = ".".join(map(str, item["loc"]))
        lines.append(f"{name}: {complaint(item)}" if name else complaint(item))
    return lines


def complaint(item: ErrorDetails) -> str:
    """Return what is wrong with one field, without its name and its value."""
    if item["type"] == "extra_forbidden":
        return "there is no such key"
    if item["type"] in ("too_short", "too_long"):
        ctx, least = item["ctx"], item["type"] == "too_short"
        limit = f"at least {ctx['min_length']}" if least else f"at most {ctx['max_length']}"
        return f"must have {limit} of them, not {ctx['actual_length']}"
    if item["type"] == "value_error":
        return item["msg"].removeprefix("Value error, ")
    why = item["msg"].removeprefix("Input ")
    return f"{why[:1].lower()}{why[1:]}"
