"""Number 5: what a farm takes that has nothing to do."""

from __future__ import annotations

import time

import psutil

from banger.embedded import control
from tests.bench.own_farm import Bench
from tests.bench.report import Line

_WATCHED_S = 10.0
_MIB = 1024 * 1024


def measure(bench: Bench) -> list[Line]:
    """Watch each of the farm's processes, its children included."""
    now = control.status(bench.farm.settings)
    pids = {"supervisor": now.pid} | {service.name: service.pid for service in now.services}
    processes = {name: _family(name, pid, set(pids.values())) for name, pid in pids.items() if pid}
    before = {name: _cpu_s(family) for name, family in processes.items()}
    time.sleep(_WATCHED_S)
    return [
        Line(
            f"5  idle: {name}",
            f"{sum(process.memory_info().rss for process in family) / _MIB:.0f} MiB",
            f"CPU {(_cpu_s(family) - before[name]) / _WATCHED_S:.1%} over {_WATCHED_S:g} s",
        )
        for name, family in processes.items()
    ]


def _family(name: str, pid: int, services: set[int | None]) -> list[psutil.Process]:
    """Return a process and its children; the supervisor's are services, with lines of their own."""
    process = psutil.Process(pid)
    return [process, *(child for child in process.children(recursive=True) if name != "supervisor")]


def _cpu_s(family: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in family)
