"""Number 2: preparing the host for a VM (reserve … tap), and what a large base image adds to it."""

from __future__ import annotations

import contextlib
import time
from statistics import median

from banger.contracts.errors import CancelledError
from banger.events import Event
from tests.bench.own_farm import Bench
from tests.bench.report import Line, spread

_ROUNDS = 10
_TARGET_MS = 120
_TARGET_RATIO = 1.20


def measure(bench: Bench) -> list[Line]:
    """Prepare for both images in turn, after one of each that is not counted: it reads their digests."""
    small_ms, large_ms = [], []
    for number in range(_ROUNDS + 1):
        small, large = prepare(bench, "small"), prepare(bench, "large")
        if number:
            small_ms.append(small)
            large_ms.append(large)
    ratio = median(large_ms) / median(small_ms)
    return [
        Line(
            "2  reserve … tap, base image of 256 MiB",
            spread(small_ms),
            "",
            None,
            f"<= {_TARGET_MS} ms",
            median(small_ms) <= _TARGET_MS,
        ),
        Line(
            "   the same, 8 GiB (reflink)",
            spread(large_ms),
            "256 MiB",
            ratio,
            f"ratio <= {_TARGET_RATIO:.2f}",
            ratio <= _TARGET_RATIO,
        ),
    ]


def prepare(bench: Bench, image: str) -> float:
    """Ask for a VM, take it back once its tap is there, and return the time from asking to tap (ms).

    The end is the event's own time, so that taking it back is not in it; Redis tells it in whole ms.
    """
    ended: list[float] = []

    def watch(event: Event) -> None:
        if event.stage == "tap" and event.kind == "started":
            bench.farm.cancel(event.job)
        if event.stage == "tap" and event.kind == "finished":
            ended.append(event.at)

    spec = bench.farm.spec(f"prepare-{image}", image=image)
    started = time.time()
    submission = bench.farm.submit_create(spec)
    with contextlib.suppress(CancelledError):
        submission.wait(watch)
    return (ended[0] - started) * 1000
