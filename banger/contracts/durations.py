"""Times as people write them (30m, 1h30m, 2d) and as we keep them (seconds)."""

from __future__ import annotations

import re

from banger.contracts.errors import InvalidInputError

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = r"([0-9]+(?:\.[0-9]+)?)([smhd])"
_LONGEST_S = 10 * 365 * 86400


def parse_duration(text: str, what: str = "time") -> float:
    """Return seconds for ``30m``, ``1h30m``, ``2d`` or a bare number (seconds); else InvalidInputError."""
    text = text.strip().lower()
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text):
        seconds = float(text)
    elif re.fullmatch(f"(?:{_PART})+", text):
        seconds = sum(float(number) * _UNIT_S[unit] for number, unit in re.findall(_PART, text))
    else:
        raise InvalidInputError(
            f"{what} {text!r} is not a time",
            resolution="Write it like 90s, 30m, 2h or 1d; a bare number is seconds.",
        )
    if not 0 < seconds <= _LONGEST_S:
        raise InvalidInputError(
            f"{what} {text!r} is not above 0, and 10 years at most",
            resolution="Write it like 90s, 30m, 2h or 1d.",
        )
    return seconds


def format_duration(seconds: float) -> str:
    """Return a text to read at a glance: ``12ms``, ``4.7s``, ``3m20s``, ``2h5m``, ``3d4h``."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes}m"
    return f"{hours // 24}d{hours % 24}h"
