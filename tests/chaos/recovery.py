"""How long recovering took: from the kill to the job's end, by what was killed."""

from __future__ import annotations

import statistics
from typing import Any


class Recoveries:
    """Collects seconds by kind of kill."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, kind: str, seconds: float) -> None:
        """Remember one recovery."""
        self._seconds.setdefault(kind, []).append(seconds)

    def absorb(self, others: Recoveries) -> None:
        """Remember those of another farm as well."""
        for kind, seconds in others._seconds.items():
            self._seconds.setdefault(kind, []).extend(seconds)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each kind of kill: how many, the median and the worst (seconds)."""
        return [
            {
                "killed": kind,
                "count": len(seconds),
                "median_s": round(statistics.median(seconds), 1),
                "worst_s": round(max(seconds), 1),
            }
            for kind, seconds in sorted(self._seconds.items())
        ]

    def text(self) -> str:
        """Return the table that people read."""
        lines = [f"{'KILLED':<38} {'COUNT':>6} {'MEDIAN':>8} {'WORST':>8}"]
        lines += [
            f"{row['killed']:<38} {row['count']:>6} {row['median_s']:>6.1f} s {row['worst_s']:>6.1f} s"
            for row in self.rows()
        ]
        return "\n".join(lines)
