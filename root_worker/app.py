"""The root Celery app of one host: ``celery -A root_worker.app worker``, one queue, root's stages alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals

from banger.contracts.broker import celery_settings
from banger.contracts.errors import BangerError
from banger.contracts.event_batches import batch_events
from banger.contracts.json_lines import log_json_lines
from banger.contracts.queues import UNWIND, Direction, task_name, work_queue
from banger.contracts.redis_url import celery_url
from banger.contracts.runner import Next
from banger.contracts.stages import Side, tasks_of
from banger.contracts.tickets import Claims
from root_worker.audit import Audit
from root_worker.door import Door
from root_worker.host import root_host
from root_worker.ledger import Ledger
from root_worker.policy_file import PolicyFile
from root_worker.runner import RootRunner
from root_worker.vmm.units import usable


def make_app(file: PolicyFile, redis_url: str, *, units: bool = False) -> Celery:
    """Return the app: the privileged stages and nothing else, every message through the door.

    The result backend stores no results; its client is the line on which outcomes are reported. ``units`` is
    whether VMs are to live in units of systemd's, where the host can do that.
    """
    app = Celery(
        "banger.root",
        backend=celery_url(redis_url),
        task_cls="root_worker.door:RootTask",
        set_as_current=False,
    )
    app.conf.update(celery_settings(redis_url))
    app.conf.worker_consumer = "root_worker.consumer:RootConsumer"
    policy = file.read()
    audit = Audit(policy.paths.audit)
    door = Door(policy, file.ticket_keys, Ledger(policy.paths.registry / ".tickets"), audit)
    app.conf.banger_door = door
    backend: Any = app.backend
    runner = RootRunner(root_host(policy, units=units and usable()), door, lambda: backend.client)
    for stage, direction in tasks_of(Side.ROOT):
        _register(app, runner, stage, direction)
    for builtin in [name for name in app.tasks if name.startswith("celery.")]:
        app.tasks.unregister(builtin)  # chord, map, backend_cleanup: nobody asks root for these
    signals.setup_logging.connect(log_json_lines, weak=False)
    signals.worker_ready.connect(batch_events, weak=False)
    signals.worker_ready.connect(runner.start, weak=False)
    signals.worker_shutting_down.connect(runner.stop, weak=False)
    return app


def _register(app: Celery, runner: RootRunner, stage: str, direction: Direction) -> None:
    @app.task(name=task_name("root", stage, direction), bind=True, shared=False, throws=(BangerError,))
    def step(task: Any, payload: dict[str, Any]) -> None:
        claims = Claims.model_validate(payload)
        after, error = runner.run(claims)
        if after is Next.CONTINUE:
            return
        task.request.chain = None
        if after is Next.UNWIND:
            call = claims.call
            task.app.send_task(UNWIND, args=[{"job": call.job}], queue=work_queue(call.host))
        if error is not None:
            raise error


def __getattr__(name: str) -> Celery:
    if name in ("app", "celery"):
        app = make_app(
            PolicyFile(Path(os.environ["BANGER_POLICY"])),
            os.environ["BANGER_REDIS_URL"],
            units=os.environ.get("BANGER_VM_UNITS") == "yes",
        )
        globals()["app"] = app
        return app
    raise AttributeError(name)
