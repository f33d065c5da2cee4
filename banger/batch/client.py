"""The front's side of batches: submit one, read how it stands, follow it, order what is to become of it.

Nothing here keeps a batch going: that is its workers' (``workers.batches``). Whoever submitted one may go.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from banger.advice import LOOK
from banger.batch.fetching import Fetcher
from banger.batch.files_left import FileName, Piece, secrets_left, uploaded_spooled
from banger.batch.orders import CancelBatch, ForgetBatch, RetryBatch, SubmitBatch
from banger.batch.packing import pack
from banger.batch.plan import Plan
from banger.batch.secrets import read_secrets
from banger.batch.shards import sharded
from banger.batch.state import BatchInfo, JobState
from banger.batch.store import Batches
from banger.batch_keys import batch_events_key
from banger.connection import FarmRedis
from banger.contracts.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    from_wire,
)
from banger.contracts.names import HostPaths, new_id
from banger.contracts.queues import BATCH, CONTROL, FETCH
from banger.settings import Settings
from banger.spool import new_file

Send = Callable[[str, str, dict[str, Any]], None]
_Order = SubmitBatch | CancelBatch | RetryBatch | ForgetBatch

_ACCEPTED_S = 30.0
_SEND_AGAIN_S = 8.0
_POLL_S = 0.02
_BLOCK_MS = 500


class Change(NamedTuple):
    """News of a batch: a job's new state, or a word about the batch (submitted, cancelling, ended)."""

    id: str
    job: JobState | None = None
    word: Literal["submitted", "cancelling", "ended"] | None = None


class BatchClient:
    """Batches as their users see them. ``send`` takes a task, a queue and a payload."""

    def __init__(self, settings: Settings, client: FarmRedis, send: Send) -> None:
        self._settings = settings
        self._redis: Any = client
        self._send = send
        self.store = Batches(client)
        self._fetcher = Fetcher(client, lambda queue, payload: send(FETCH, queue, payload))

    # --- submitting ------------------------------------------------------------------------------

    def submit(self, plan: Plan, directory: Path, environment: Mapping[str, str] | None = None) -> BatchInfo:
        """Submit a plan, whose paths are relative to ``directory``, and return it once it was accepted.

        Upload and secrets are left on this host: the front's own files reach no other by themselves. Secrets
        go nowhere else, so that a plan that has some runs here alone. InvalidInputError and the errors of
        placement where it cannot be run; nothing is left then.
        """
        secrets = read_secrets(plan, directory, os.environ if environment is None else environment)
        plan = self.with_shards(self._placed_here(plan) if secrets else plan, directory)
        batch, paths = new_id(), self._settings.paths
        order = SubmitBatch(batch=batch, plan=plan, home=self._settings.host)
        try:
            if plan.upload:
                _leave(uploaded_spooled(paths, batch), lambda file: pack(plan.upload, directory, file))
            if secrets:
                _leave_secrets(paths, batch, secrets)
            self._order_until(order, "0", lambda: self.store.get(batch) is not None)
            return self.store.find(batch)
        except UnavailableError:
            raise  # it may be accepted yet
        except BaseException as error:
            uploaded_spooled(paths, batch).unlink(missing_ok=True)
            secrets_left(paths, batch).unlink(missing_ok=True)
            if not isinstance(error, Exception):  # who submits it leaves, and it may be on its way
                with suppress(UnavailableError):
                    self._order(CancelBatch(batch=batch, reason="it was interrupted").model_dump(mode="json"))
            raise

    def with_shards(self, plan: Plan, directory: Path) -> Plan:
        """Return the plan with the files of each shard, laid out by how long they took before."""
        return sharded(plan, directory, self.store.times(plan.name)) if plan.split else plan

    def _placed_here(self, plan: Plan) -> Plan:
        if plan.host not in (None, self._settings.host):
            raise InvalidInputError(
                f"a plan with secrets cannot run on host {plan.host}",
                details=f"secrets do not leave the host where they are submitted: {self._settings.host}",
                resolution=f"Submit it on {plan.host}, or leave `host` out of the plan.",
            )
        return plan.model_copy(update={"host": self._settings.host})

    def _raise_refusal(self, batch: str, after: str) -> None:
        for _, fields in self._redis.xrange(batch_events_key(batch), min=f"({after}"):
            if "refused" in fields:
                raise from_wire(json.loads(fields["refused"]))

    # --- reading ---------------------------------------------------------------------------------

    def follow(self, batch: str, after: str = "0") -> Iterator[Change | None]:
        """Yield what changes after an event, to the batch's end; None while nothing does.

        NotFoundError where the batch is gone.
        """
        key = batch_events_key(batch)
        while True:
            reply = self._redis.xread({key: after}, block=_BLOCK_MS, count=500)
            word = None
            for _, entries in reply or []:
                for entry, fields in entries:
                    after = entry
                    if (change := _change(entry, fields)) is not None:
                        word = change.word
                        yield change
            if not reply or word == "ended":
                info = self.store.get(batch)
                if info is None:
                    raise NotFoundError(f"batch {batch} is not known any more")
                if info.state == "ended":
                    return
                yield None

    def pieces(
        self, job: JobState, batch: str, file: FileName, offset: int = 0, *, attempt: int | None = None
    ) -> Iterator[bytes]:
        """Yield a file that an attempt of a job left, by default its last one.

        NotFoundError where there is none (yet).
        """
        tried = _attempt(job, batch, attempt)
        return self._fetcher.pieces(tried.host, batch, file, job.index, tried.number, offset)

    def piece(
        self, job: JobState, batch: str, file: FileName, offset: int = 0, *, attempt: int | None = None
    ) -> Piece:
        """Return a piece of such a file, and its size as it is now: None where it is not there."""
        tried = _attempt(job, batch, attempt)
        return self._fetcher.piece(tried.host, batch, file, job.index, tried.number, offset)

    # --- ordering --------------------------------------------------------------------------------

    def cancel(self, batch: str, reason: str = "it was cancelled") -> None:
        """Stop a batch; its end comes as ever. ConflictError where it has ended."""
        info = self.store.find(batch)
        if info.state == "ended":
            raise ConflictError(
                f"batch {info.id} has ended already", resolution=f"`banger batch status {info.id}` tells how."
            )
        order = CancelBatch(batch=info.id, reason=reason)
        self._order_until(order, self.store.last_event(info.id), lambda: self._state_of(info.id) != "running")

    def retry(
        self,
        batch: str,
        indexes: Sequence[int],
        environment: Mapping[str, str] | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """Let jobs that have ended run once more, and return when they wait; secrets are read anew.

        With ``keep`` their VMs stay however they end, for the time that the plan says.
        ConflictError where the batch is being cancelled, or one of the jobs has not ended. InvalidInputError
        where the plan's secrets are not to be had here.
        """
        info, plan = self.store.find(batch), self.store.plan(batch)
        if info.state == "cancelling":
            raise ConflictError(f"batch {info.id} is being cancelled", resolution="Wait for its end.")
        ended = [self.store.job(info.id, index) for index in indexes]
        for job in ended:
            if job.state != "ended":
                raise ConflictError(
                    f"job {job.index} of batch {info.id} has not ended: it is {job.state}",
                    resolution="Wait for its end.",
                )
        if plan.secrets:
            self._secrets_anew(info, plan, os.environ if environment is None else environment)
        order = RetryBatch(batch=info.id, attempts={job.index: job.attempt for job in ended}, keep=keep)
        last = ended[-1] if ended else None
        self._order_until(
            order,
            self.store.last_event(info.id),
            lambda: last is None or self.store.job(info.id, last.index) != last,
        )

    def _secrets_anew(self, info: BatchInfo, plan: Plan, environment: Mapping[str, str]) -> None:
        if info.host != (here := self._settings.host):
            raise InvalidInputError(
                f"batch {info.id} has secrets and was submitted on host {info.host}",
                details=f"secrets do not leave the host where they are submitted; this is {here}",
                resolution=f"Run this command on {info.host}.",
            )
        _leave_secrets(self._settings.paths, info.id, read_secrets(plan, Path.cwd(), environment))

    def forget(self, batch: str) -> None:
        """Remove a batch that has ended, and what its jobs left. ConflictError for one that has not."""
        info = self.store.find(batch)
        if info.state != "ended":
            raise ConflictError(
                f"batch {info.id} has not ended", resolution=f"`banger batch cancel {info.id}` first."
            )
        after = self.store.last_event(info.id)
        self._order_until(ForgetBatch(batch=info.id), after, lambda: self._state_of(info.id) is None)

    def _state_of(self, batch: str) -> str | None:
        info = self.store.get(batch)
        return info.state if info else None

    def _order_until(self, order: _Order, after: str, done: Callable[[], bool]) -> None:
        """Order it, again while nothing comes of it: a message can be lost with the worker that took it.

        It has one effect at most. Raises what refuses it, on the batch's events ``after`` that one.
        """
        deadline, sent = time.monotonic() + _ACCEPTED_S, float("-inf")
        while not done():
            self._raise_refusal(order.batch, after)
            now = time.monotonic()
            if now > deadline:
                raise UnavailableError(
                    "no worker has taken the order yet",
                    details=f"what was asked of batch {order.batch} is done when one is there",
                    resolution=LOOK,
                )
            if now - sent > _SEND_AGAIN_S:
                self._order(order.model_dump(mode="json"))
                sent = now
            time.sleep(_POLL_S)

    def _order(self, payload: dict[str, Any]) -> None:
        self._send(BATCH, CONTROL, payload)


def _leave_secrets(paths: HostPaths, batch: str, secrets: Mapping[str, str]) -> None:
    _leave(secrets_left(paths, batch), lambda file: file.write(json.dumps(secrets).encode()))


def _leave(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Put a file where this host's worker finds it, whole or not at all: jobs may be reading an older one.

    InvalidInputError where this user may not.
    """
    scratch = path.with_name(f".{path.name}-{new_id()}")
    brief = "what is uploaded cannot be handed to this host's worker"
    resolution = "Only the farm's owner, and root, may do that, on a host of the farm."
    file = new_file(scratch, brief, resolution)
    try:
        with file:
            write(file)
        scratch.rename(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


class _Tried(NamedTuple):
    number: int
    host: str


def _attempt(job: JobState, batch: str, number: int | None) -> _Tried:
    """Return an attempt that was made somewhere, by default the last one; NotFoundError otherwise."""
    if number is not None and not 1 <= number <= job.attempt:
        raise NotFoundError(
            f"job {job.index} of batch {batch} has no attempt {number}",
            details=f"it has {job.attempt}",
            resolution=f"`banger batch show {batch} {job.index}` tells of each.",
        )
    attempt = job.attempts[(number or job.attempt) - 1] if job.attempts else None
    if attempt is None or attempt.host is None:
        raise NotFoundError(
            f"job {job.index} of batch {batch} has run nowhere yet",
            details=f"it is {job.state}",
            resolution=f"`banger batch status {batch}` tells what it waits for.",
        )
    return _Tried(attempt.number, attempt.host)


def _change(entry: str, fields: Mapping[str, str]) -> Change | None:
    if "job" in fields:
        return Change(entry, job=JobState.model_validate_json(fields["job"]))
    if (word := fields.get("batch")) in ("submitted", "cancelling", "ended"):
        return Change(entry, word=word)  # type: ignore[arg-type]
    return None
