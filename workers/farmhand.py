"""One unprivileged worker process: its host, its line to the farm's memory, its background threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from celery import Celery

from banger.batch.fetching import Fetcher
from banger.batch.store import Batches
from banger.connection import connect
from banger.contracts.calls import StageCall
from banger.contracts.errors import BangerError, InvalidInputError, UnavailableError
from banger.contracts.names import is_id, new_id
from banger.contracts.overdue import WatchedJournal
from banger.contracts.queues import BEGIN, CONTROL, FETCH, UNWIND, Direction, work_queue
from banger.contracts.requests import StageRequest
from banger.contracts.runner import Effect, Next, run_step
from banger.contracts.seat import Seat
from banger.contracts.states import State
from banger.dispatch import dispatch, send
from banger.output import JobOutput
from banger.records import Job, Records
from banger.settings import Settings
from banger.ticket_keys import private_key
from workers import intents
from workers.batch_files import sweep_batches
from workers.batches import Batcher
from workers.capacity import describe_host, long_threads
from workers.host import BatchContext, StageContext, WorkHost
from workers.lock import hold_for_life
from workers.names import Names
from workers.reboot import Reboot
from workers.reconcile import Reconciler
from workers.restore import restore
from workers.rings import Rings
from workers.spool import sweep
from workers.stages import BATCH_EFFECTS, EFFECTS, update_spec

log = logging.getLogger("banger.workers")

T = TypeVar("T")

_HEARTBEAT_S = 2.0
_ROOT_POLL_S = 0.1  # root says what there is a moment after its start
_RECONCILE_S = 5.0
_SPOOL_S = 10.0
_OVERDUE_S = 2.0
_BATCH_FILES_S = 600.0
_NO_THREAD_PAUSE_S = 0.2


class Farmhand:
    """What the tasks of one worker share. Thread-safe."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.records = Records(connect(settings.redis()))
        self.batches = Batches(self.records.redis)
        self.fetcher = Fetcher(self.records.redis, partial(send, app, FETCH))
        self.journal = WatchedJournal(self.records.redis)
        self.host = WorkHost(
            settings.host,
            settings.paths,
            settings.network,
            settings.uid_base,
            disk_backend=settings.disk_backend,
            names=settings.names,
        )
        self.seat = Seat(lambda: self.records.redis, self.host.name, self.host.paths)
        self.names = Names(self.host)
        self.rings = Rings()
        self.reboot = Reboot(self.host.paths)
        self.reconciler = Reconciler(self)
        self.batcher = Batcher(self)
        self._long = threading.BoundedSemaphore(long_threads(settings))

    def run(self, call: StageCall) -> tuple[Next, BangerError | None]:
        """Run one step here. One that waits is given back when too many are at it, or this worker ends."""
        if not call.table_row.waits:
            return self._run(call)
        if self.host.stopping.is_set() or not self._long.acquire(timeout=_NO_THREAD_PAUSE_S):
            return Next.RETRY, None
        try:
            return self._run(call)
        finally:
            self._long.release()

    def _run(self, call: StageCall) -> tuple[Next, BangerError | None]:
        output = JobOutput(self.records.redis, call.job)
        wish = partial(_unless_away, partial(self.records.wish, call.job))
        context = StageContext(host=self.host, wish=lambda: wish() or "", emit=output.emit)
        effects: dict[tuple[str, Direction], Effect] = {
            key: partial(_with, context, effect) for key, effect in EFFECTS.items()
        }
        effects["update_spec", "do"] = partial(_with, self.records, update_spec.do)
        for_batches = BatchContext(
            host=self.host,
            wish=context.wish,
            batches=self.batches,
            fetcher=self.fetcher,
        )
        effects |= {key: partial(_with, for_batches, effect) for key, effect in BATCH_EFFECTS.items()}
        if call.final:
            last = call.stage, call.direction
            effects[last] = partial(self._and_remember, call, effects[last])
        after, error = run_step(call, self.journal, effects)
        if call.final or (error and call.fails_to):
            self.batcher.wake()  # it may have been a batch's, or have made room for one
        return after, error

    def _and_remember(self, call: StageCall, effect: Effect, request: StageRequest) -> dict[str, Any] | None:
        """Carry out a job's last step, and note what the VM is now, and its name, before anybody is told.

        Not where another job has the VM by now: this step is late, and none of its job's any more.
        """
        data = effect(request)
        record = _unless_away(partial(self.records.get, call.vm_id))
        if record is not None and record.job == call.job:
            becomes = {"state": State(str(call.final)), "job": None, "rev": record.rev + 1}
            settled = record.model_copy(update=becomes)
            if settled.state is not State.GONE:
                intents.remember(self.host.paths, settled)
            self.names.follow(settled)
        return data

    def ring_begin(self, vm_id: str, pipeline: str, job: str | None = None, *, rev: int) -> None:
        """Have a job of this host's VM begun that nobody asked for.

        It says at which ``rev`` of the record: a message may come late, from a worker that has died with it,
        and what it is about be over by then.
        """
        self._order({"vm": vm_id, "job": job or new_id(), "pipeline": pipeline, "params": {}, "rev": rev})

    def _order(self, order: dict[str, Any]) -> None:
        send(self.app, BEGIN, work_queue(self.host.name), order)

    def dispatch(self, calls: Sequence[StageCall]) -> None:
        """Send the steps of a job of this host, those for root sealed with the host's key of the day."""
        dispatch(self.app, calls, private_key(self.host.paths))

    def ring(self, job: Job) -> None:
        """Have a job that nobody is at gone on with: it is asked for as it was the first time."""
        self.records.rang(job.id)
        if job.state == "unwinding":
            self.ring_unwind(job.id)
        else:
            self._order({"vm": job.vm, "job": job.id, "pipeline": job.pipeline, "params": job.params})

    def ring_unwind(self, job: str) -> None:
        """Have a failed job undone."""
        send(self.app, UNWIND, work_queue(self.host.name), {"job": job})

    def refuse_order(self, payload: Any, complaints: Sequence[str]) -> None:
        """Drop an order that is not well-formed, and tell who asked, where it says who that is."""
        log.warning("refused an order: %s", "; ".join(complaints))
        said = payload if isinstance(payload, dict) else {}
        vm_id, job, batch, pipeline = (str(said.get(name)) for name in ("vm", "job", "batch", "pipeline"))
        error = InvalidInputError("the order is not valid", details="\n".join(complaints))
        if is_id(vm_id) and is_id(job):
            self.records.refuse(vm_id, job, pipeline[:20], error.to_wire())
        elif is_id(batch):
            self.batches.refuse(batch, error)

    def start(self) -> None:
        """Begin to say that this host is there, and to look after its jobs.

        Not before another worker of this host has ended: what that had begun is ours then. Nor while another
        machine serves under this host's name: its VMs are not here, and ours are not there.
        """
        hold_for_life(self.host.paths.vms / ".worker.lock")
        self.seat.wait(self.host.stopping)
        for name, every_s, body in (
            ("heartbeat", _HEARTBEAT_S, self._beat_when_root_does),
            ("reconcile", _RECONCILE_S, self.reconciler.look),
            ("overdue", _OVERDUE_S, self.give_up),
            ("spool", _SPOOL_S, partial(sweep, self.host, self.records, self.batches)),
            ("batch-files", _BATCH_FILES_S, partial(sweep_batches, self.host.paths, self.batches)),
            ("batches", 0.0, self.batcher.look_when_due),
        ):
            threading.Thread(target=self._repeat, args=(every_s, body), name=name, daemon=True).start()

    def stop(self) -> None:
        """Tell waits to hand over and threads to end."""
        self.host.stopping.set()

    def give_up(self) -> None:
        """Report the steps that hang here, and have their jobs undone."""
        for call in self.journal.give_up():
            log.error("%s did not end within %g s", call.task_id, call.table_row.deadline_s)
            if not call.fails_to:
                self.ring_unwind(call.job)

    def beat(self) -> bool:
        """Say what this host has and which queues are served: none while nothing can be asked of root.

        A host that Redis does not know, or not any more, tells first which VMs it has: their slots and names
        are taken before anything is placed here. False while root has not said what those are.
        """
        private_key(self.host.paths)
        self.seat.keep()
        if not self.records.knows_host(self.host.name) and not restore(self):
            return False
        self.records.publish_host(describe_host(self.settings))
        self.records.publish_serving(work_queue(self.host.name))
        self.records.publish_serving(CONTROL)
        return True

    def _beat_when_root_does(self) -> None:
        while not self.beat() and not self.host.stopping.wait(_ROOT_POLL_S):
            pass

    def _repeat(self, every_s: float, body: Callable[[], object]) -> None:
        """Do it now, and again and again: what fails once, for want of Redis, must not end it."""
        while True:
            try:
                body()
            except BangerError as error:
                log.warning("%s: %s", threading.current_thread().name, error.brief)
            except Exception:
                log.exception("%s failed; it will be tried again", threading.current_thread().name)
            if self.host.stopping.wait(every_s):
                return


def _unless_away(ask: Callable[[], T]) -> T | None:
    """Return what Redis says; None where it cannot be reached. What is done to a VM does not fail for that.

    It is asked again while a stage waits, and reconcile remembers what has come to rest.
    """
    try:
        return ask()
    except UnavailableError:
        return None


def _with(given: object, effect: Callable[..., dict[str, Any] | None], request: StageRequest) -> Any:
    return effect(request, given)
