"""Sizes as people write them (8GiB, 512MiB) and as we keep them (whole MiB)."""

from __future__ import annotations

import re

from banger.contracts.errors import InvalidInputError

_UNIT_MIB = {"": 1, "M": 1, "MIB": 1, "G": 1024, "GIB": 1024, "T": 1024 * 1024, "TIB": 1024 * 1024}
_LARGEST_MIB = 16 * 1024 * 1024  # 16 TiB, ext4's own limit with 4 KiB blocks


def parse_mib(text: str, what: str = "size") -> int:
    """Return whole MiB for ``512MiB``, ``8GiB``, ``1.5G`` or a bare number (MiB); else InvalidInputError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    unit = _UNIT_MIB.get(match.group(2).upper()) if match else None
    if match is None or unit is None:
        raise InvalidInputError(
            f"{what} {text!r} is not a size", resolution="Write it like 512MiB or 8GiB; a bare number is MiB."
        )
    mib = float(match.group(1)) * unit
    if mib != int(mib) or mib < 1:
        raise InvalidInputError(
            f"{what} {text!r} is not a positive whole number of MiB",
            resolution="Write it like 512MiB or 8GiB.",
        )
    if mib > _LARGEST_MIB:
        raise InvalidInputError(
            f"{what} {text!r} is larger than {format_mib(_LARGEST_MIB)}", resolution="Ask for less."
        )
    return int(mib)


def format_mib(mib: int) -> str:
    """Return the shortest exact text: ``8GiB``, ``1536MiB``."""
    for unit, size in (("TiB", 1024 * 1024), ("GiB", 1024)):
        if mib >= size and mib % size == 0:
            return f"{mib // size}{unit}"
    return f"{mib}MiB"
