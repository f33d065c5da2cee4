"""Both workers' apps, with crash points: ``celery -A chaos_apps:work`` and ``celery -A chaos_apps:root``.

Real stages in real worker processes, against the real kernel; no constant is changed. Only where a VM is of
the stub's size, its VMM is a stub, and what would talk to its guest is answered without one. A box has its
copy of this file, since the worker's user need not see the tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import slow_disk
import stub_vmm
from crash_points import CrashPoints, watch_netlink

_DIRECTORY = Path(os.environ["BANGER_CHAOS"])


def _points(side: str) -> CrashPoints:
    from banger.contracts.journal import Journal

    points = CrashPoints(_DIRECTORY, side)
    Journal._finish = points.after_report(Journal._finish)  # type: ignore[method-assign]
    points.install()
    slow_disk.install(_DIRECTORY / "slowness")
    return points


def _work() -> Any:
    from banger.pipelines import COMMANDS
    from workers import app, begin, farmhand, reserve, unwind

    points = _points("work")
    farmhand.run_step = points.around_step(farmhand.run_step)
    for module in (begin, reserve, unwind):
        module.run = points.around_order(module.__name__.rpartition(".")[2], module.run)
    for stage, answer in (
        ("wait_ready", None),
        ("guest_shutdown", {"graceful": False}),
        ("file_sync", {"files": 0}),
        ("upload", None),
        ("collect", {"files": {}, "notes": []}),
    ):
        _instead(stage, partial(_answered, answer))
    for stage in COMMANDS:
        _instead(stage, _command)
    return app.app


def _root() -> Any:
    from pyroute2 import IPRoute

    from banger.contracts import qemu
    from root_worker import app, runner

    points = _points("root")
    watch_netlink(IPRoute)
    runner.run_step = points.around_step(runner.run_step)
    real_argv = qemu.argv
    qemu.argv = lambda machine: (
        stub_vmm.stub_argv(machine) if machine.memory_mib == stub_vmm.STUB_MEMORY_MIB else real_argv(machine)
    )
    return app.app


def _instead(stage: str, of: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put what is made of a stage's effect in its place."""
    from workers import stages

    effects = stages.BATCH_EFFECTS if (stage, "do") in stages.BATCH_EFFECTS else stages.EFFECTS
    effects[stage, "do"] = of(effects[stage, "do"])


def _is_stub(request: Any, ctx: Any) -> bool:
    from workers.intents import recall

    record = recall(ctx.host.paths, request.vm_id)
    return record is not None and record.spec.memory_mib == stub_vmm.STUB_MEMORY_MIB


def _answered(answer: Any, effect: Callable[..., Any]) -> Callable[..., Any]:
    def run(request: Any, ctx: Any) -> Any:
        return answer if _is_stub(request, ctx) else effect(request, ctx)

    return run


def _command(effect: Callable[..., Any]) -> Callable[..., Any]:
    """Let a stub's command be a line in a list: one that ran twice stands there twice."""

    def run(request: Any, ctx: Any) -> Any:
        if not _is_stub(request, ctx):
            return effect(request, ctx)
        with (_DIRECTORY / "commands").open("a") as file:
            file.write(f"{request.vm_id}\n")
        return {"exit_code": 0}

    return run


def __getattr__(name: str) -> Any:
    if name in ("work", "root"):
        app = globals()[name] = {"work": _work, "root": _root}[name]()
        return app
    raise AttributeError(name)
