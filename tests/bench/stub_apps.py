"""Both workers' apps, whose VMMs are stubs: ``celery -A stub_apps:work`` and ``celery -A stub_apps:root``.

All else is as it is; only what would talk to a guest is answered without one. Services get copies of this
file and of ``stub_vmm``, since the worker's user need not see the tests.
"""

from __future__ import annotations

from typing import Any

import stub_vmm

_ANSWERS: dict[str, dict[str, Any] | None] = {
    "wait_ready": None,
    "work": {"exit_code": 0},
    "guest_shutdown": {"graceful": False},
}


def _work() -> Any:
    from workers import app, stages

    for stage, answer in _ANSWERS.items():
        effects: Any = stages.BATCH_EFFECTS if (stage, "do") in stages.BATCH_EFFECTS else stages.EFFECTS
        effects[stage, "do"] = lambda _request, _ctx, answer=answer: answer
    return app.app


def __getattr__(name: str) -> Any:
    if name in ("work", "root"):
        app = globals()[name] = {"work": _work, "root": stub_vmm.root_app}[name]()
        return app
    raise AttributeError(name)
