"""Batches for the CLI's tests: the real client and the real rules, over what a test puts in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cli_farm import session as plain_session
from farm_facts import JOB, VM, record

from banger.batch.client import BatchClient
from banger.batch.files_left import Piece
from banger.batch.plan import Plan
from banger.batch.state import Attempt, BatchInfo, JobState, Verdict
from banger.batch.store import Batches
from banger.cli.session import Session
from banger.contracts.errors import NotFoundError

BATCH, OLDER = "1f0c9d2e7a55", "0a0a0a0a0a0a"


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"name": "tests", "image": "micro", "run": ("true",)} | changes)


def info(**changes: Any) -> BatchInfo:
    fields = {
        "id": BATCH,
        "name": "tests",
        "state": "ended",
        "image": "micro",
        "image_id": "a" * 12,
        "host": "here",
        "total": 2,
        "counts": {"passed": 1, "failed": 1},
        "created_at": 1000.0,
        "ended_at": 1060.0,
        "deadline_at": 90_000.0,
    }
    return BatchInfo.model_validate(fields | changes)


def attempt(number: int = 1, **changes: Any) -> Attempt:
    fields = {
        "number": number,
        "vm": VM,
        "job": JOB,
        "host": "here",
        "began_at": 1000.0,
        "ended_at": 1010.0,
        "verdict": "failed",
        "exit_code": 2,
    }
    return Attempt.model_validate(fields | changes)


def job(index: int = 0, **changes: Any) -> JobState:
    """Return a job that failed in its only attempt; ``attempts`` and all else as it is given."""
    fields = {
        "index": index,
        "title": f"job {index}",
        "state": "ended",
        "verdict": "failed",
        "exit_code": 2,
        "reason": "run 1: make test",
        "host": "here",
        "vm": VM,
        "vm_name": f"tests-1f0c9d-{index}",
        "job": JOB,
        "attempts": (attempt(),),
        "began_at": 1000.0,
        "ended_at": 1010.0,
    }
    return JobState.model_validate(fields | changes)


def passed(index: int = 0, **changes: Any) -> JobState:
    """Return a job that passed."""
    fields = {
        "verdict": Verdict.PASSED,
        "exit_code": 0,
        "reason": None,
        "attempts": (attempt(verdict="passed", exit_code=0),),
    }
    return job(index, **(fields | changes))


class PlayedRedis:
    """What the client itself reads: the events of a batch, of which there are none."""

    def xrange(self, *_: object, **__: object) -> list[Any]:
        return []


class PlayedStore(Batches):
    """Batches as the test says."""

    def __init__(self) -> None:
        super().__init__(PlayedRedis())  # type: ignore[arg-type]
        self.known: list[BatchInfo] = []
        self.plans: dict[str, Plan] = {}
        self.states: dict[str, list[JobState]] = {}

    def get(self, batch: str) -> BatchInfo | None:
        return next((one for one in self.known if one.id == batch), None)

    def all(self) -> list[BatchInfo]:
        return self.known

    def plan(self, batch: str) -> Plan:
        return self.plans[batch]

    def jobs(self, batch: str) -> list[JobState]:
        return self.states[batch]

    def job(self, batch: str, index: int) -> JobState:
        found = next((one for one in self.states[batch] if one.index == index), None)
        if found is None:
            raise NotFoundError(f"batch {batch} has no job {index}")
        return found

    def last_event(self, batch: str) -> str:
        return "7-0"


class PlayedHost:
    """A host that has these files, by job, attempt and name."""

    def __init__(self) -> None:
        self.files: dict[tuple[int, int, str], bytes] = {}
        self.asked: list[tuple[str, int, int, str, int]] = []
        self.before_answer: Callable[[], None] = lambda: None

    def piece(self, host: str, _batch: str, file: str, index: int, attempt: int, offset: int) -> Piece:
        self.asked.append((host, index, attempt, file, offset))
        self.before_answer()
        data = self.files.get((index, attempt, file))
        return Piece(size=None) if data is None else Piece(size=len(data), data=data[offset : offset + 1000])

    def pieces(self, host: str, batch: str, file: str, index: int, attempt: int, offset: int) -> Any:
        while data := (piece := self.piece(host, batch, file, index, attempt, offset)).data:
            yield data
            offset += len(data)
        if piece.size is None:
            raise NotFoundError(f"host {host} has no {file} of job {index}")


class PlayedBatches(BatchClient):
    """The client over a played store and a played host; what it orders is remembered."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings, PlayedRedis(), self._take)  # type: ignore[arg-type]
        self.store: PlayedStore = PlayedStore()
        self.host = PlayedHost()
        self._fetcher = self.host  # type: ignore[assignment]
        self.orders: list[Mapping[str, Any]] = []
        self.obeyed: Callable[[Mapping[str, Any]], None] = self._obey

    def _take(self, _task: str, _queue: str, payload: Mapping[str, Any]) -> None:
        self.orders.append(payload)
        self.obeyed(payload)

    def _obey(self, order: Mapping[str, Any]) -> None:
        """Do as a worker does."""
        store, batch = self.store, order["batch"]
        match order["do"]:
            case "cancel":
                store.known = [
                    one.model_copy(update={"state": "cancelling"}) if one.id == batch else one
                    for one in store.known
                ]
            case "forget":
                store.known = [one for one in store.known if one.id != batch]
            case "retry":
                store.states[batch] = [
                    one.model_copy(update={"state": "waiting", "verdict": None})
                    if one.index in again_of(order)
                    else one
                    for one in store.states[batch]
                ]


def again_of(order: Mapping[str, Any]) -> list[int]:
    """Return the indexes of the jobs that are to run again."""
    return [int(index) for index in order["attempts"]]


def batch_session(tmp_path: Any, *jobs: JobState, of: Plan | None = None, **changes: Any) -> Session:
    """Return a session whose farm has one batch, of these jobs, and the VM of the first."""
    made = plain_session(tmp_path, record())
    batches = PlayedBatches(made.settings)
    batches.store.known = [info(total=len(jobs), **changes)]
    batches.store.plans[BATCH] = of or plan(count=max(1, len(jobs)))
    batches.store.states[BATCH] = list(jobs)
    made.farm.batches = batches
    return made


def batches_of(made: Session) -> PlayedBatches:
    batches = made.farm.batches
    assert isinstance(batches, PlayedBatches)
    return batches
