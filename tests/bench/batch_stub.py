"""Number 7: what a batch costs beside its guests: real stages, with a stub where each VMM would be."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil
from rich.console import Console

from banger.batch.plan import Plan, VmPlan
from banger.batch.state import JobState, Verdict
from banger.cli.batch.board import Board
from banger.cli.batch.clock import Clock
from banger.cli.batch.live import BatchLive
from banger.connection import connect
from banger.embedded import control, credentials
from tests.bench.command_line import BANGER
from tests.bench.in_terminal import InTerminal
from tests.bench.own_farm import Bench
from tests.bench.report import Line, spread

SIZES = (10, 100, 1000)
_PARALLEL = 8
_ROUNDS = {10: 5}  # of a size; what is small is measured more often
_SERVICES = ("worker", "root-worker", "redis")
_REDRAWS = 20
_KIB = 1024

_FLAT = 1.20
_SUBMIT_S = 2
_MEMORY_KIB = 20
_REDRAW_MS = 50
_VERDICT_S = 1


class _Measured(NamedTuple):
    """One batch. Times in seconds: to be accepted, from then to its end, of the processor; and to tell.

    ``told_s`` and ``left_s``: from the end of the last job until the batch has ended, and until the command
    that showed it has; ``shown_cpu`` is what of one processor that command took. ``grown`` is in bytes.
    """

    jobs: int
    submit_s: float
    wall_s: float
    cpu_s: float
    told_s: float
    left_s: float
    shown_cpu: float
    grown: int


def up_to(jobs: int) -> tuple[int, ...]:
    """Return the sizes up to a largest one."""
    return (*(size for size in SIZES if size < jobs), jobs)


def measure(bench: Bench, sizes: Sequence[int] = SIZES) -> list[Line]:
    """Run batches of these sizes, the small ones several times, after one that is not counted."""
    with _admin(bench) as redis:
        _run(bench, redis, sizes[0])
        found = {size: [_run(bench, redis, size) for _ in range(_ROUNDS.get(size, 1))] for size in sizes}
        largest = found[sizes[-1]][0]
        redraw_ms = _redraw_ms(bench)
    every = [one for several in found.values() for one in several]
    return [
        *_costs(found),
        _line(
            f"7  submit {largest.jobs} jobs",
            f"{largest.submit_s * 1000:.0f}",
            f"<= {_SUBMIT_S} s",
            kept=largest.submit_s <= _SUBMIT_S,
        ),
        _line(
            f"7  Redis, a job of {largest.jobs}",
            f"{largest.grown / largest.jobs / _KIB:.1f} KiB",
            f"<= {_MEMORY_KIB} KiB",
            kept=largest.grown / largest.jobs <= _MEMORY_KIB * _KIB,
        ),
        _line(
            f"7  live table of {largest.jobs} jobs, a redraw",
            spread(redraw_ms),
            f"<= {_REDRAW_MS} ms",
            f"CPU {largest.shown_cpu:.1%} of the whole command",
            kept=median(redraw_ms) <= _REDRAW_MS,
        ),
        _verdict("7  last job's end to the batch's", [one.told_s for one in every]),
        _verdict("7  last job's end to the CLI's exit", [one.left_s for one in every]),
    ]


def _costs(found: dict[int, list[_Measured]]) -> list[Line]:
    """Compare what a job costs in batches of each size: the processor's time, and the clock's."""
    lines = []
    for what, cost in (("CPU", lambda one: one.cpu_s), ("clock", lambda one: one.wall_s)):
        each_ms = {size: [cost(one) / size * 1000 for one in several] for size, several in found.items()}
        small, *_, large = (median(values) for values in each_ms.values())
        lines.append(
            Line(
                f"7  a job of {max(found)}, {what}",
                f"{large:.0f}",
                ", ".join(f"of {size}: {spread(values)}" for size, values in each_ms.items()),
                large / small,
                f"ratio <= {_FLAT:.2f}",
                large / small <= _FLAT,
            )
        )
    return lines


def _verdict(what: str, took_s: list[float]) -> Line:
    took_ms = [seconds * 1000 for seconds in took_s]
    return _line(what, spread(took_ms), f"<= {_VERDICT_S} s", kept=max(took_s) <= _VERDICT_S)


def _line(what: str, measured: str, target: str, against: str = "", *, kept: bool) -> Line:
    return Line(what, measured, against, target=target, kept=kept)


@contextmanager
def _admin(bench: Bench) -> Iterator[Any]:
    known = credentials.load(bench.farm.settings.farm_file)
    assert known is not None
    client = connect(known.url("admin"))
    try:
        yield client
    finally:
        client.close()


def _run(bench: Bench, redis: Any, jobs: int) -> _Measured:
    batches = bench.farm.batches
    plan = Plan(
        name="stubs",
        image="micro",
        vm=VmPlan(memory_mib=64, disk_mib=64, system_overlay_mib=64),
        count=jobs,
        run=("true",),
        max_parallel=_PARALLEL,
    )
    services = _services(bench)
    memory, cpu_s = redis.info("memory")["used_memory"], _cpu_s(services)
    events = redis.xrevrange("banger:events", count=1)
    started = time.perf_counter()
    info = batches.submit(plan, Path("/"))
    submit_s = time.perf_counter() - started
    with InTerminal((str(BANGER), "batch", "attach", info.id), bench.environment) as terminal:
        ended_at = next(
            int(change.id.partition("-")[0]) / 1000
            for change in batches.follow(info.id)
            if change is not None and change.word == "ended"
        )
        cpu_s = _cpu_s(services) - cpu_s
        exited = terminal.wait()
    info = batches.store.find(info.id)
    assert exited.code == 0, f"batch {info.id}: {info.counts}"
    bench.say(f"  {jobs} jobs: {ended_at - info.created_at:.1f} s")
    last_at = _last_settled(bench, events[0][0] if events else "0")
    return _Measured(
        jobs,
        submit_s,
        ended_at - info.created_at,
        cpu_s,
        ended_at - last_at,
        exited.at - last_at,
        exited.cpu_s / exited.took_s,
        redis.info("memory")["used_memory"] - memory,
    )


def _last_settled(bench: Bench, after: str) -> float:
    """Return when the last job ended of those that began after an event, in epoch seconds."""
    events = bench.farm.events.read(after=after)
    return max(event.at for event in events if event.kind == "settled")


def _services(bench: Bench) -> list[psutil.Process]:
    services = control.status(bench.farm.settings).services
    return [psutil.Process(service.pid) for service in services if service.name in _SERVICES and service.pid]


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Return the processor's time that processes, and the tools that they ran, have had."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def _redraw_ms(bench: Bench) -> list[float]:
    """Draw the youngest batch as if it were half done."""
    batches = bench.farm.batches
    info = batches.store.find("last")
    board = Board(info, _half_done(batches.store.jobs(info.id)), batches.store.times(info.name))
    console = Console(file=StringIO(), force_terminal=True, width=120, height=50)
    live = BatchLive(board, Clock(), console)
    took_ms = []
    for _ in range(_REDRAWS):
        started = time.perf_counter()
        console.print(live.screen())
        took_ms.append((time.perf_counter() - started) * 1000)
    return took_ms


def _half_done(jobs: Sequence[JobState]) -> list[JobState]:
    half, at_work = len(jobs) // 2, len(jobs) // 2 + _PARALLEL
    failed = {"verdict": Verdict.FAILED, "exit_code": 1}
    return [
        *(job.model_copy(update=failed if job.index % 10 == 0 else {}) for job in jobs[:half]),
        *(
            job.model_copy(update={"state": "running", "verdict": None, "ended_at": None})
            for job in jobs[half:at_work]
        ),
        *(JobState(index=job.index, title=job.title, matrix=job.matrix) for job in jobs[at_work:]),
    ]
