"""The unprivileged Celery app of one host: ``celery -A workers.app worker``."""

from __future__ import annotations

from typing import Any

from celery import Celery, signals
from pydantic import TypeAdapter, ValidationError

from banger.batch.orders import BatchOrder, Fetch
from banger.complaints import complaints
from banger.contracts.calls import StageCall
from banger.contracts.errors import BangerError
from banger.contracts.event_batches import batch_events
from banger.contracts.json_lines import log_json_lines
from banger.contracts.queues import BATCH, BEGIN, FETCH, RECONCILE, RESERVE, UNWIND, Direction, task_name
from banger.contracts.runner import Next
from banger.contracts.stages import Side, tasks_of
from banger.dispatch import celery_app
from banger.orders import Look, NewVm, Order, Unwinding
from banger.pipelines import COMMANDS
from banger.settings import Settings, load_settings
from workers import begin, reserve, unwind
from workers.farmhand import Farmhand


def make_app(settings: Settings) -> Celery:
    """Return the app with every unprivileged stage registered, and its background threads on start."""
    app = celery_app("banger.workers", settings.redis())
    app.conf.worker_consumer = "workers.consumer:WorkConsumer"
    farmhand = Farmhand(app, settings)
    for stage, direction in tasks_of(Side.WORK):
        _register_stage(app, farmhand, stage, direction)
    for name, model, body in (
        (RESERVE, NewVm, reserve.run),
        (BEGIN, Order, begin.run),
        (UNWIND, Unwinding, unwind.run),
        (RECONCILE, Look, lambda farmhand, order: farmhand.reconciler.answer(order)),
        (BATCH, BatchOrder, lambda farmhand, order: farmhand.batcher.obey(order)),
        (FETCH, Fetch, lambda farmhand, order: farmhand.batcher.answer(order)),
    ):
        _register_order(app, farmhand, name, model, body)
    signals.setup_logging.connect(log_json_lines, weak=False)
    signals.worker_ready.connect(batch_events, weak=False)
    _connect_signals(farmhand)
    return app


def _register_stage(app: Celery, farmhand: Farmhand, stage: str, direction: Direction) -> None:
    # A message of a command that runs for hours would be redelivered: it is acknowledged at once.
    @app.task(
        name=task_name("work", stage, direction),
        bind=True,
        shared=False,
        acks_late=stage not in COMMANDS,
        max_retries=None,
        throws=(BangerError,),
    )
    def step(task: Any, payload: dict[str, Any]) -> None:
        call = StageCall.model_validate(payload)
        after, error = farmhand.run(call)
        if after is Next.RETRY:
            # A new message with the rest of the chain: one that is acknowledged cannot be given back.
            raise task.retry(countdown=0, argsrepr=task.request.argsrepr, kwargsrepr="")
        if after is Next.CONTINUE:
            return
        task.request.chain = None
        if after is Next.UNWIND:
            farmhand.ring_unwind(call.job)
        if error is not None:
            raise error


def _register_order(app: Celery, farmhand: Farmhand, name: str, model: Any, body: Any) -> None:
    understand = TypeAdapter(model).validate_python

    @app.task(name=name, shared=False, throws=(BangerError,))
    def order(payload: dict[str, Any]) -> None:
        try:
            understood = understand(payload)
        except ValidationError as error:
            farmhand.refuse_order(payload, complaints(error))
            return
        body(farmhand, understood)


def _connect_signals(farmhand: Farmhand) -> None:
    @signals.worker_ready.connect(weak=False)
    def ready(**_: Any) -> None:
        farmhand.start()

    @signals.worker_shutting_down.connect(weak=False)
    def stopping(**_: Any) -> None:
        farmhand.stop()


def __getattr__(name: str) -> Celery:
    if name in ("app", "celery"):
        app = make_app(load_settings())
        globals()["app"] = app
        return app
    raise AttributeError(name)
