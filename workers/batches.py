"""Batches move on here: jobs that wait are begun where there is room, and those that have ended are settled.

Every worker does it, when a job of its own has ended and every few seconds. Whoever comes first is heard (the
store compares what was read with what is there), so no single worker need live for a batch to go on.
"""

from __future__ import annotations

import logging
import threading
from typing import IO, TYPE_CHECKING

from banger.batch.expand import vm_of
from banger.batch.files_left import ANSWER_TTL_S, Piece, attempt_directory, read_piece
from banger.batch.orders import CancelBatch, ForgetBatch, RetryBatch, SubmitBatch
from banger.batch.sharing import Room
from banger.batch.state import BatchInfo, JobState
from banger.batch.vms import Planned, begun, vm_spec
from banger.batch_keys import answer_key
from banger.contracts.errors import (
    BangerError,
    CapacityError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from banger.placement import place
from workers.settling import Settler
from workers.starting import begin_waiting
from workers.uploads import open_upload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from banger.batch.orders import BatchOrder, Fetch
    from workers.farmhand import Farmhand

log = logging.getLogger("banger.batches")

_LOOK_S = 2.0


class Batcher:
    """Looks at all batches, one look at a time, and does what is ordered of them."""

    def __init__(self, farmhand: Farmhand) -> None:
        self._farmhand = farmhand
        self._batches = farmhand.batches
        self._settler = Settler(farmhand)
        self._due = threading.Event()
        self._plans: dict[str, Planned] = {}

    def wake(self) -> None:
        """Look now: something has ended, or has been asked for."""
        self._due.set()

    def look_when_due(self) -> None:
        """Wait until something has ended, or for a while, then look."""
        self._due.wait(_LOOK_S)
        self._due.clear()
        if self.look():
            self._due.set()

    def look(self) -> bool:
        """Settle what has ended, and begin what there is room for; tell whether there was anything."""
        self._settler.look_at_hosts()
        active = self._batches.active()
        plans, changed = {}, False
        for info in active:
            try:
                plans[info.id] = self._planned(info.id)
                changed |= self._settler.settle(info, plans[info.id])
            except UnavailableError:
                raise
            except Exception:  # the others must not wait for this one
                log.exception("batch %s cannot be moved on", info.id)
        self._plans = plans
        if active:
            begin_waiting(self._farmhand, plans)
        return changed

    def obey(self, order: BatchOrder) -> None:
        """Do what was ordered, or tell on the batch's events why not."""
        try:
            match order:
                case SubmitBatch():
                    self._submit(order)
                case CancelBatch():
                    self._batches.cancel(order.batch, order.reason, self._farmhand.records.now())
                case RetryBatch():
                    self._retry(order)
                case ForgetBatch():
                    self._batches.forget(order.batch)
        except UnavailableError:
            raise  # Redis is away, and hands the order out again
        except BangerError as error:
            self._batches.refuse(order.batch, error)
        self.wake()

    def answer(self, order: Fetch) -> None:
        """Answer with a piece of a file of this host."""
        try:
            with self._open(order) as file:
                piece = read_piece(file, order.offset)
        except (OSError, BangerError):
            piece = Piece(size=None)
        self._batches.redis.set(answer_key(order.answer), piece.model_dump_json(), ex=ANSWER_TTL_S)

    def _open(self, order: Fetch) -> IO[bytes]:
        host = self._farmhand.host
        if order.file == "upload.tar":
            return open_upload(host, order.batch, host.name, self._farmhand.fetcher)
        return (attempt_directory(host.paths, order.batch, order.index, order.attempt) / order.file).open(
            "rb"
        )

    def _planned(self, batch: str) -> Planned:
        return self._plans.get(batch) or Planned.of(self._batches.plan(batch))

    def _submit(self, order: SubmitBatch) -> None:
        if self._batches.get(order.batch) is not None:
            return  # delivered again
        plan, now = order.plan, self._farmhand.records.now()
        info = BatchInfo(
            id=order.batch,
            name=plan.name,
            state="running",
            image=plan.image,
            host=order.home,
            total=0,
            parallel=plan.max_parallel,
            created_at=now,
            deadline_at=now + plan.batch_timeout_s,
        )
        planned = Planned.of(plan)
        jobs = [JobState(index=job.index, title=job.title, matrix=job.matrix) for job in planned.jobs]
        info = self._checked(info.model_copy(update={"total": len(jobs)}), planned, jobs)
        self._batches.submit(info, plan, jobs)

    def _checked(self, info: BatchInfo, planned: Planned, jobs: list[JobState]) -> BatchInfo:
        """Return the batch with the image that all of its jobs will use; the error of one that none can take.

        An image that a matrix names is each job's own. A VM that would not even find room in a farm that has
        nothing else to do is refused now: it would wait for ever, and all behind it.
        """
        try:
            return self._placed(info, planned, jobs)
        except (NotFoundError, CapacityError):
            self._farmhand.beat()  # what was built or installed a moment ago may not have been announced yet
            return self._placed(info, planned, jobs)

    def _placed(self, info: BatchInfo, planned: Planned, jobs: list[JobState]) -> BatchInfo:
        plan, hosts = planned.plan, self._farmhand.records.hosts()
        empty = Room(hosts, {}).used_by_batches()
        image_id = None
        for job in _one_of_each_vm(planned, jobs):
            spec = vm_spec(self._farmhand.settings, info, planned, begun(info, job, info.created_at))
            candidates = place(spec, hosts, empty)
            if spec.image == plan.image:
                image_id = candidates[0].image.id
        return info.model_copy(update={"image_id": image_id})

    def _retry(self, order: RetryBatch) -> None:
        plan = self._batches.plan(order.batch)
        deadline_at = self._farmhand.records.now() + plan.batch_timeout_s
        jobs = [self._batches.job(order.batch, index) for index in sorted(order.attempts)]
        ended = [job for job in jobs if job.state == "ended" and job.attempt == order.attempts[job.index]]
        refused = []
        for old in ended:
            new = old.waiting(old.attempts, keep=order.keep)
            if not self._batches.again(order.batch, old, new, deadline_at):
                refused.append(str(old.index))
        if refused:
            raise ConflictError(
                f"jobs of batch {order.batch} cannot run again now: {', '.join(refused[:20])}",
                details="the batch is being cancelled, or somebody else has asked for the same",
                resolution=f"`banger batch status {order.batch}` shows how it stands.",
            )


def _one_of_each_vm(planned: Planned, jobs: Sequence[JobState]) -> list[JobState]:
    """Return the first job of each kind of VM that a plan wants."""
    kinds: dict[tuple[tuple[str, object], ...], JobState] = {}
    for planned_job, job in zip(planned.jobs, jobs, strict=True):
        kinds.setdefault(tuple(sorted(vm_of(planned.plan, planned_job).items())), job)
    return list(kinds.values())
