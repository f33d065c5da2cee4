"""A job that was submitted: follow it to its end, or cancel it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from banger.advice import LOOK
from banger.connection import FarmRedis, is_away
from banger.contracts.errors import BangerError, UnavailableError, from_wire
from banger.contracts.journal import vm_events_key
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.contracts.stages import STAGES, Side
from banger.contracts.states import State
from banger.events import Event, parse_event
from banger.output import Output, OutputReader, output_key
from banger.pipelines import Pipeline
from banger.records import Records

_SEND_AGAIN_S = 30.0
_SILENCE_S = 3.0  # how long nothing may happen before we ask whether anybody is there
_AWAY_S = 15.0  # how long Redis may be away: it is restarted in far less, and the job goes on meanwhile
_PAUSE_S = 0.2
_BLOCK_MS = 500
_BATCH = 200  # entries of a stream in one reply


@dataclass(frozen=True)
class Outcome:
    """How a job ended: the VM's state, and the exit code of its command where it ran one."""

    state: str
    exit_code: int | None = None


class Submission:
    """One job on its way. ``vm_id`` and ``job`` name it for good.

    ``again`` sends its first message once more, which is safe: it is called while nothing has come of it,
    since a message can be lost with the worker that took it.
    """

    def __init__(
        self,
        client: FarmRedis,
        vm_id: str,
        job: str,
        pipeline: Pipeline,
        after: str,
        again: Callable[[], None] | None = None,
    ) -> None:
        self.vm_id = vm_id
        self.job = job
        self.pipeline = pipeline
        self._redis: Any = client
        self._records = Records(client)
        self._after = after
        self._again = again

    def cancel(self) -> None:
        """Ask the job to stop between two stages; what it did is undone. Its end still comes as ever."""
        self._records.cancel(self.job)

    def accepted(self) -> None:
        """Wait until the job has the VM; raises the error where it was refused."""
        for item in self._items(with_output=False):
            if isinstance(item, Event):
                _raise_refusal(item)
                return

    def wait(
        self,
        on_event: Callable[[Event], None] | None = None,
        on_output: Callable[[Output], None] | None = None,
    ) -> Outcome:
        """Follow the job to its end and return how it ended.

        Raises the error of the stage that failed, after everything was undone, or UnavailableError
        naming the queue, where nobody serves the queue that the job waits in.
        """
        failure: BangerError | None = None
        exit_code: int | None = None
        for item in self._items(with_output=on_output is not None):
            if isinstance(item, Output):
                if on_output:
                    on_output(item)
                continue
            _raise_refusal(item)
            if on_event:
                on_event(item)
            if item.kind == "failed" and item.error and failure is None:
                failure = from_wire(item.error)
                failure.brief = f"{item.stage} failed: {failure.brief}"
            if item.stage == "exec" and item.kind == "finished":
                exit_code = item.data.get("exit_code")
            if item.kind == "settled":
                if failure is not None:
                    if item.state == State.ERROR and not failure.resolution:
                        failure.resolution = f"`banger vm show {self.vm_id} --timeline` tells more."
                    raise failure
                return Outcome(item.state or "", exit_code)
        raise AssertionError("a stream of items has no end of its own")

    def _items(self, *, with_output: bool) -> Any:
        """Yield this job's events and output, each event after all that was printed before it."""
        cursors = {vm_events_key(self.vm_id): self._after}
        if with_output:
            cursors[output_key(self.job)] = "0"
        reader = OutputReader()
        sent = heard = time.monotonic()
        last: Event | None = None
        while True:
            asked = time.monotonic()
            entries = self._patiently(lambda: self._redis.xread(cursors, block=_BLOCK_MS, count=_BATCH))
            reply = dict(entries or [])
            if time.monotonic() - asked > _BLOCK_MS / 1000 + _PAUSE_S:
                heard = time.monotonic()  # Redis was away, and workers tell it anew that they are there
            printed = reply.pop(output_key(self.job), [])
            for entry_id, fields in printed:
                cursors[output_key(self.job)] = entry_id
                yield from reader.read(fields)
            if len(printed) == _BATCH:
                continue  # there may be more, and the events that came with it may be later
            # Both streams are read in one command: what was printed before an event is through by now.
            for entry_id, fields in reply.get(vm_events_key(self.vm_id), []):
                cursors[vm_events_key(self.vm_id)] = entry_id
                event = parse_event(entry_id, fields)
                if event.job == self.job:
                    heard, last = time.monotonic(), event
                    yield event
            if time.monotonic() - heard > _SILENCE_S:
                self._patiently(lambda: self._require_served(last))  # noqa: B023
                heard = time.monotonic()
            if last is None and self._again and time.monotonic() - sent > _SEND_AGAIN_S:
                self._again()
                sent = time.monotonic()

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask Redis, again while it is away for a moment; say what becomes of the job where it stays away."""
        deadline = time.monotonic() + _AWAY_S
        while True:
            try:
                return ask()
            except UnavailableError as error:
                if not is_away(error):
                    raise
                if time.monotonic() > deadline:
                    goes_on = f"the job {self.job} of VM {self.vm_id} goes on when it is back"
                    error.details += f"\n{goes_on}; `banger job show {self.job}` tells how it went"
                    raise
                time.sleep(_PAUSE_S)

    def _require_served(self, last: Event | None) -> None:
        """Raise UnavailableError where nobody serves the queue that the job waits in."""
        queue = self._queue_after(last)
        if self._records.serving(queue):
            return
        raise UnavailableError(
            f"nobody serves the queue {queue}",
            details=f"the job {self.job} of VM {self.vm_id} waits there; it goes on when a worker is back",
            resolution=LOOK,
        )

    def _queue_after(self, last: Event | None) -> str:
        if last is None:
            record = self._records.get(self.vm_id)
            return work_queue(record.host) if record and record.job != self.job else CONTROL
        if last.kind == "started":
            return last.queue
        host = last.host or (record.host if (record := self._records.get(self.vm_id)) else "")
        stages = self.pipeline.unwinding if last.unwinding else [row.stage for row in self.pipeline.rows]
        position = next((n for n, stage in enumerate(stages) if stage == last.stage), -1)
        following = stages[position + 1] if position + 1 < len(stages) else ""
        root = following in STAGES and STAGES[following].side is Side.ROOT and last.kind == "finished"
        return root_queue(host) if root else work_queue(host)


def _raise_refusal(event: Event) -> None:
    if event.kind == "refused":
        raise from_wire(event.error or {})
