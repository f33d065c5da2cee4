"""Number 3: what each stage costs for going through a queue, against the same functions in a row."""

from __future__ import annotations

import time
from statistics import median

from tests.bench.own_farm import Bench
from tests.bench.preparation import prepare
from tests.bench.report import Line, spread

_ROUNDS = 20
_TARGET_MS = 4
_STAGES = ("admit", "overlay", "attach_system_disk", "patch_rootfs", "work_disk", "tap")


def measure(bench: Bench) -> list[Line]:
    """Run the preparing stages both ways in turn, after one of each that is not counted."""
    queued_ms, row_ms = [], []
    for number in range(_ROUNDS + 1):
        queued, row = prepare(bench, "micro"), _in_a_row(bench)
        if number:
            queued_ms.append(queued)
            row_ms.append(row)
    passages = len(_STAGES) + 1  # and reserve, which is a message of its own
    each_ms = (median(queued_ms) - median(row_ms)) / passages
    return [
        Line(
            f"3  queueing, each of {passages} stages",
            f"{each_ms:.1f}",
            f"{spread(queued_ms)} queued, {spread(row_ms)} in a row",
            median(queued_ms) / median(row_ms),
            f"<= {_TARGET_MS} ms",
            each_ms <= _TARGET_MS,
        )
    ]


def _in_a_row(bench: Bench) -> float:
    started = time.perf_counter()
    steps = bench.row.plan(bench.images["micro"])
    try:
        for stage in _STAGES:
            bench.row.do(steps[stage])
        return (time.perf_counter() - started) * 1000
    finally:
        for stage in reversed(_STAGES):
            bench.row.undo(steps[stage])
