"""A batch that is run before the tests' eyes: the real client's words, and changes as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cli_farm import session as plain_session
from played_batches import BATCH, PlayedBatches, info, plan

from banger.batch.client import Change
from banger.batch.expand import expand
from banger.batch.plan import Plan
from banger.batch.state import BatchInfo, JobState, Verdict
from banger.cli.session import Session
from banger.contracts.errors import BangerError, UnavailableError


class PlayedRun(PlayedBatches):
    """Batches of which one is submitted, changes as ``script`` says, and ends.

    An item of the script is a job's new state, an error to be raised once, or something to call.
    """

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.script: list[JobState | BangerError | Callable[[], None] | None] = []
        self.submitted: list[tuple[Plan, Path]] = []
        self.refusal: BangerError | None = None
        self.before_accepted: Callable[[], None] = lambda: None
        self.store.times = lambda _name: {}  # type: ignore[method-assign]

    def submit(self, plan: Plan, directory: Path, environment: Any = None) -> BatchInfo:
        self.before_accepted()
        if self.refusal:
            raise self.refusal
        self.submitted.append((plan, directory))
        jobs = [JobState(index=job.index, title=job.title, matrix=job.matrix) for job in expand(plan)]
        self.begin(jobs, name=plan.name)
        return self.store.find(BATCH)

    def begin(self, jobs: list[JobState], **changes: Any) -> None:
        """Have a batch that goes on."""
        begun = info(state="running", ended_at=None, total=len(jobs), counts={}, **changes)
        self.store.known, self.store.states, self.store.plans = [begun], {BATCH: jobs}, {BATCH: plan()}

    def follow(self, batch: str, after: str = "0") -> Iterator[Change | None]:
        while self.script:
            match self.script.pop(0):
                case JobState() as job:
                    self.store.states[batch][job.index] = job
                    yield Change("1000000-0", job=job)
                case BangerError() as error:
                    raise error
                case None:
                    yield None
                case act:
                    act()
        self.end()
        yield Change("1000001-0", word="ended")

    def end(self) -> None:
        """End the batch with the verdicts that its jobs have."""
        verdicts = [job.verdict or Verdict.CANCELLED for job in self.store.states[BATCH]]
        counts = {verdict: verdicts.count(verdict) for verdict in set(verdicts)}
        ended = {"state": "ended", "ended_at": 1060.0, "counts": counts}
        self.store.known = [one.model_copy(update=ended) for one in self.store.known]


def away() -> UnavailableError:
    """Redis was not there to be asked."""
    import redis

    error = UnavailableError("Redis cannot be reached")
    error.__cause__ = redis.ConnectionError("gone")
    return error


def run_session(tmp_path: Path, *script: Any) -> Session:
    """Return a session whose farm plays a batch as the script says."""
    made = plain_session(tmp_path)
    batches = PlayedRun(made.settings)
    batches.script = list(script)
    made.farm.batches = batches
    return made


def run_of(made: Session) -> PlayedRun:
    batches = made.farm.batches
    assert isinstance(batches, PlayedRun)
    return batches
