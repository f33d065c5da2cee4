"""What pydantic complains of, as lines for people: which field, what is wrong with it."""

from __future__ import annotations

from pydantic import ValidationError


def complaints(error: ValidationError) -> list[str]:
    """Return a line for each field that is not valid: its name, unless it is the whole, and why.

    Not its value: that may be a password, and who gave it knows it.
    """
    lines = []
    for item in error.errors():
        name = ".".join(map(str, item["loc"]))
        field = f"{name}: " if name else ""
        if item["type"] == "extra_forbidden":
            lines.append(f"{field}there is no such key")
            continue
        why = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
        lines.append(f"{field}{why[:1].lower()}{why[1:]}")
    return lines
