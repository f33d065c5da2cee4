"""Both workers' apps, with faults: ``celery -A faulty_apps:work`` and ``celery -A faulty_apps:root``.

Real stages run in real worker processes; what is asked for in a file goes wrong around one of them. A box
has its copy of this file, since the worker's user need not see the tests.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from banger.contracts import boot, seat
from banger.contracts.errors import StageFailedError
from banger.contracts.stages import STAGES

_FAULTS = Path(os.environ["BANGER_TEST_FAULTS"])
if (_boot := _FAULTS.with_name("boot_id")).exists():
    boot.BOOT_ID = _boot
    seat.SERVING_TTL_S, seat._ASK_S = 1, 0.2  # the boot before is silent, and nobody is a copy
_HOLD_S = 30.0
_DEADLINES = {stage.name: stage.deadline_s for stage in STAGES.values()}


def _asked_for(stage: str, direction: str, when: str) -> str | None:
    """Return what shall go wrong here and now, if anything."""
    for fault in json.loads(_FAULTS.read_text()):
        if (fault["stage"], fault["direction"], fault["when"]) == (stage, direction, when):
            return str(fault["how"])
    return None


def _strike(stage: str, direction: str, when: str) -> bool:
    """Fail, wait, hang (past the deadline) or die as asked for; tell whether to leave out the effect."""
    how = _asked_for(stage, direction, when)
    if how == "fail":
        raise StageFailedError(f"a test made this fail {when} its effect")
    if how == "die":
        os.kill(os.getpid(), 9)
    if how == "hang":
        STAGES[stage] = STAGES[stage]._replace(deadline_s=0.5)
    deadline = time.monotonic() + _HOLD_S
    while how in ("hold", "hang") and time.monotonic() < deadline:
        time.sleep(0.02)
        how = _asked_for(stage, direction, when)
    STAGES[stage] = STAGES[stage]._replace(deadline_s=_DEADLINES[stage])
    return how == "skip"


def _faulty(stage: str, direction: str, effect: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if (ran := os.environ.get("BANGER_TEST_RAN")) is not None:
            with Path(ran).open("a") as file:
                file.write(f"{stage} {direction}\n")
        done = None if _strike(stage, direction, "before") else effect(*args, **kwargs)
        _strike(stage, direction, "after")
        return done

    return run


def _work() -> Any:
    from banger.records import Records
    from workers import app, decisions, farmhand, stages

    farmhand._RECONCILE_S = 0.5  # what is lost is to be rung again within a test
    decisions._STILL_S = 2.0
    for (stage, direction), effect in stages.EFFECTS.items():
        stages.EFFECTS[stage, direction] = _faulty(stage, direction, effect)
    Records.reserve = _faulty("reserve", "do", Records.reserve)  # type: ignore[method-assign]
    return app.app


def _root() -> Any:
    from root_worker import app, stages

    for (stage, direction), effect in stages.EFFECTS.items():
        stages.EFFECTS[stage, direction] = _faulty(stage, direction, effect)
    return app.app


def __getattr__(name: str) -> Any:
    if name in ("work", "root"):
        app = globals()[name] = {"work": _work, "root": _root}[name]()
        return app
    raise AttributeError(name)
