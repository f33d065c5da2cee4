"""What is printed at the end: the matrix, what was wrong, and how long it took to recover. 110 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batch import Verdict
from cells import all_places

_COLUMNS = ("before", "inside", "after", "reported")
_OTHERS = (("worker", "root-worker"), ("redis",), ("tool",))


def matrix_text(verdicts: Sequence[Verdict]) -> str:
    """Return the matrix: a row a place, how many of its points were tried and are as they should be."""
    lines = [
        f"{'PIPELINE':<14} {'STEP':<28} {'RUN BY':<6} {'BEFORE':<7} {'INSIDE':<8} {'AFTER':<6} REPORTED "
        f" {'BOTH':<6} {'REDIS':<6} {'TOOL':<6} GUEST"
    ]
    shown = ""
    for place in all_places():
        ours = [verdict for verdict in verdicts if verdict.cell.place == place]
        if not ours:
            continue
        pipeline = place.pipeline if place.pipeline != shown else ""
        shown = place.pipeline
        guest = _said([verdict for verdict in ours if verdict.cell.guest])
        own = [v for v in ours if v.cell.victims == (place.service,) and not v.cell.guest]
        before, inside, after, reported = (_said([v for v in own if _column(v) == name]) for name in _COLUMNS)
        run_by = place.service.removesuffix("-worker")
        both, redis, tool = (_said([v for v in ours if v.cell.victims == victims]) for victims in _OTHERS)
        lines.append(
            f"{pipeline:<14} {place.title:<28} {run_by:<6} {before:<7} {inside:<8} {after:<6}"
            f" {reported:<9} {both:<6} {redis:<6} {tool:<6} {guest}".rstrip()
        )
    return "\n".join(lines)


def failures_text(verdicts: Sequence[Verdict], left: Sequence[str], most: int = 40) -> str:
    """Return what was wrong, cell by cell."""
    lines = []
    for verdict in verdicts:
        if verdict.wrong:
            lines.append(f"{verdict.cell.title}:")
            lines += [f"    {line}" for line in verdict.wrong[:most]]
    if left:
        lines += ["at the end:", *(f"    {line}" for line in left[:most])]
    return "\n".join(lines)


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the verdicts as values."""
    return [
        {
            **verdict.cell.place._asdict(),
            "at": verdict.cell.at,
            "killed": list(verdict.cell.victims),
            "guest": verdict.cell.guest,
            "wrong": list(verdict.wrong),
            "recovered_s": verdict.recovered_s,
        }
        for verdict in verdicts
    ]


def _column(verdict: Verdict) -> str:
    """Return where a cell is shown; that a step was taken from its queue lies before it as well."""
    if isinstance(verdict.cell.at, int):
        return "inside"
    return "before" if verdict.cell.at == "taken" else verdict.cell.at


def _said(verdicts: Sequence[Verdict]) -> str:
    """Return a cell: ``ok``, ``12/12`` where there are several, ``FAIL`` with how many, a dash for none."""
    if not verdicts:
        return "-"
    bad = sum(1 for verdict in verdicts if verdict.wrong)
    if bad:
        return f"FAIL {bad}" if bad > 1 else "FAIL"
    return "ok" if len(verdicts) == 1 else f"{len(verdicts)}/{len(verdicts)}"
