"""The table that the benchmark prints."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Line(NamedTuple):
    """One row: what was measured, the figure, what it is held against, their ratio, and the promise."""

    what: str
    measured: str
    against: str = ""
    ratio: float | None = None
    target: str = ""
    kept: bool | None = None


def show(lines: Sequence[Line]) -> None:
    """Print the lines under what this machine is."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    table = Table(
        title=f"banger on {os.cpu_count()} CPUs, Linux {platform.release()}, load {load}",
        caption="Medians of one run. Times in ms unless they say otherwise.",
        caption_justify="left",
    )
    for heading in ("", "measured", "against", "ratio", "target", ""):
        table.add_column(heading, justify="right" if heading in ("measured", "ratio") else "left")
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        verdict = "" if line.kept is None else "kept" if line.kept else "[red]missed[/red]"
        table.add_row(line.what, line.measured, line.against, ratio, line.target, verdict)
    Console(width=118).print(table)


def spread(values_ms: Sequence[float]) -> str:
    """Return a median with the range it was taken from."""
    return f"{median(values_ms):.0f} ({min(values_ms):.0f}-{max(values_ms):.0f})"
