"""The root Celery app of one host: ``celery -A root_worker.app worker``, one queue, root's stages alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals

from banger.contracts.broker import broker_url, celery_settings
from banger.contracts.calls import StageCall
from banger.contracts.errors import BangerError
from banger.contracts.event_batches import batch_events
from banger.contracts.json_lines import log_json_lines
from banger.contracts.queues import UNWIND, Direction, task_name, work_queue
from banger.contracts.runner import Next
from banger.contracts.stages import Side, tasks_of
from root_worker.host import root_host
from root_worker.policy import Policy
from root_worker.runner import RootRunner


def make_app(policy: Policy, redis_url: str) -> Celery:
    """Return the app: the privileged stages and nothing else, every message through the door.

    The result backend stores no results; its client is the line on which outcomes are reported.
    """
    app = Celery(
        "banger.root",
        backend=broker_url(redis_url),
        task_cls="root_worker.door:RootTask",
        set_as_current=False,
    )
    app.conf.update(celery_settings(redis_url))
    app.conf.worker_consumer = "root_worker.consumer:RootConsumer"
    app.conf.banger_policy = policy
    backend: Any = app.backend
    runner = RootRunner(root_host(policy), lambda: backend.client)
    for stage, direction in tasks_of(Side.ROOT):
        _register(app, runner, stage, direction)
    signals.setup_logging.connect(log_json_lines, weak=False)
    signals.worker_ready.connect(batch_events, weak=False)
    signals.worker_ready.connect(runner.start, weak=False)
    signals.worker_shutting_down.connect(runner.stop, weak=False)
    return app


def _register(app: Celery, runner: RootRunner, stage: str, direction: Direction) -> None:
    @app.task(name=task_name("root", stage, direction), bind=True, shared=False, throws=(BangerError,))
    def step(task: Any, payload: dict[str, Any]) -> None:
        call = StageCall.model_validate(payload)
        after, error = runner.run(call)
        if after is Next.CONTINUE:
            return
        task.request.chain = None
        if after is Next.UNWIND:
            task.app.send_task(UNWIND, args=[{"job": call.job}], queue=work_queue(call.host))
        if error is not None:
            raise error


def load_policy() -> Policy:
    """Return the policy of the root-owned file that BANGER_POLICY names."""
    path = Path(os.environ.get("BANGER_POLICY", "/etc/banger/policy.json"))
    status = path.stat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise SystemExit(f"root_worker: {path} must be owned by root and writable by root alone")
    return Policy.model_validate_json(path.read_bytes())


def __getattr__(name: str) -> Celery:
    if name in ("app", "celery"):
        app = make_app(load_policy(), os.environ["BANGER_REDIS_URL"])
        globals()["app"] = app
        return app
    raise AttributeError(name)
