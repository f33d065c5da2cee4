"""Number 7: what it costs that root's tools are confined: patch_rootfs as it is, and without its sandbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from root_worker.ops import debugfs
from tests.bench.own_farm import Bench
from tests.bench.report import Line, spread

_ROUNDS = 20
_TARGET_MS = 40


def measure(bench: Bench) -> list[Line]:
    """Patch one VM's disk both ways in turn, after one of each that is not counted."""
    steps = bench.row.plan(bench.images["micro"])
    before = ("admit", "overlay", "attach_system_disk")
    confined_ms, bare_ms = [], []
    try:
        for stage in before:
            bench.row.do(steps[stage])

        def patch() -> float:
            started = time.perf_counter()
            bench.row.do(steps["patch_rootfs"])
            return (time.perf_counter() - started) * 1000

        for number in range(_ROUNDS + 1):
            confined = patch()
            with _no_sandbox():
                bare = patch()
            if number:
                confined_ms.append(confined)
                bare_ms.append(bare)
    finally:
        for stage in reversed(before):
            bench.row.undo(steps[stage])
    return [
        Line(
            "7  patch_rootfs, its tools in a sandbox",
            spread(confined_ms),
            f"{spread(bare_ms)} without",
            median(confined_ms) / median(bare_ms),
            f"<= {_TARGET_MS} ms",
            median(confined_ms) <= _TARGET_MS,
        )
    ]


@contextmanager
def _no_sandbox() -> Iterator[None]:
    sandboxed = debugfs.sandboxed
    debugfs.sandboxed = lambda *_, **__: ()  # type: ignore[assignment]
    try:
        yield
    finally:
        debugfs.sandboxed = sandboxed  # type: ignore[assignment]
