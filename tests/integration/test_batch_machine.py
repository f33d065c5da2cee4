"""A batch against a model: several workers race over it, each with what it read a while ago.

Hypothesis lets them read, take, place, give back, settle, cancel, forget and ask again, in any order, each of
it again, and late. A change counts if, and only if, nobody else has changed the job since it was read.
"""

from __future__ import annotations

from typing import Any

import pytest
from batch_facts import BATCH, batch, plan
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from banger.batch.judging import Outcome, after, dropped
from banger.batch.state import BatchInfo, JobState, Verdict
from banger.batch.store import Batches
from banger.batch.vms import begun, placed, taken_back
from banger.batch_keys import ACTIVE_BATCHES, batch_events_key, batch_key
from banger.connection import connect
from banger.contracts.errors import ConflictError
from banger.contracts.journal import job_key

pytestmark = pytest.mark.integration

PROFILE = settings(
    phases=[Phase.generate],
    max_examples=150,
    stateful_step_count=60,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
JOBS = 4
PLAN = plan(count=JOBS, retries={"infra": 2, "test": 1})
NOW = 1500.0

workers, indexes = st.integers(0, 2), st.integers(0, JOBS - 1)


class Machine(RuleBasedStateMachine):
    """What workers do. ``read``: what each of them has read, of the batch and of its jobs."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.batches = Batches(connect(url))
        self.redis: Any = self.batches.redis
        self.redis.flushall()
        self.ends = 0
        self.phase = "running"
        jobs = [JobState(index=index, title=f"job {index}") for index in range(JOBS)]
        self.submitted = (batch(total=JOBS), PLAN, jobs)
        assert self.batches.submit(*self.submitted)
        self.jobs: dict[int, JobState] = dict(enumerate(jobs))
        self.line = list(range(JOBS))
        self.read: list[tuple[BatchInfo, dict[int, JobState]]] = []
        for _ in range(3):
            self.read.append(self.as_it_is())

    def as_it_is(self) -> tuple[BatchInfo, dict[int, JobState]]:
        info = self.batches.get(BATCH)
        assert info is not None
        return info, {job.index: job for job in self.batches.jobs(BATCH)}

    # --- what workers do -----------------------------------------------------------------------------

    @rule(worker=workers)
    def look(self, worker: int) -> None:
        self.read[worker] = self.as_it_is()

    @rule(worker=workers, index=indexes, parallel=st.integers(1, JOBS))
    def take(self, worker: int, index: int, parallel: int) -> None:
        info, jobs = self.read[worker]
        old = jobs[index]
        if old.state != "waiting":
            return
        new = begun(info, old, NOW)
        counts = (
            self.phase == "running"
            and self.line[:1] == [index]
            and self.is_as_read(old)
            and len(self.at_work()) < parallel
        )
        assert self.batches.take(BATCH, old, new, parallel) is counts
        self.wrote(new, counts=counts)
        if counts:
            self.line.pop(0)

    @rule(worker=workers, index=indexes)
    def place(self, worker: int, index: int) -> None:
        old = self.read[worker][1][index]
        if old.state == "starting":
            new, counts = placed(old, "here"), self.is_as_read(old)
            assert self.batches.placed(BATCH, old, new) is counts
            self.wrote(new, counts=counts)

    @rule(worker=workers, index=indexes)
    def begin(self, worker: int, index: int) -> None:
        """Let the attempt's job be there, unless somebody wants no more of it."""
        old = self.read[worker][1][index]
        if old.job and not self.redis.exists(f"{job_key(old.job)}:cancel"):
            self.redis.hset(job_key(old.job), "state", "running")

    @rule(worker=workers, index=indexes)
    def give_back(self, worker: int, index: int) -> None:
        old = self.read[worker][1][index]
        if old.state not in ("starting", "running"):
            return
        has_begun = bool(self.redis.exists(job_key(old.job or "")))
        new, counts = taken_back(old), self.is_as_read(old) and not has_begun
        assert self.batches.give_back(BATCH, old, new, "no room") is counts
        self.wrote(new, counts=counts)
        if counts:
            self.line.insert(0, index)

    @rule(worker=workers, index=indexes, verdict=st.sampled_from(Verdict), fails_fast=st.booleans())
    def settle(self, worker: int, index: int, verdict: Verdict, fails_fast: bool) -> None:
        info, jobs = self.read[worker]
        old = jobs[index]
        if old.state not in ("starting", "running"):
            return
        new = after(old, Outcome(verdict), PLAN, info, NOW, vm_runs=False)
        stop = "fail_fast" if fails_fast and new.verdict is Verdict.FAILED else ""
        counts = self.is_as_read(old) and (new.state == "ended" or self.phase == "running")
        assert self.batches.settle(BATCH, old, new, NOW, stop) is counts
        self.wrote(new, counts=counts)
        if counts and new.state == "waiting":
            self.line.append(index)
        if counts and stop and self.phase == "running":
            self.phase = "cancelling"
        self.perhaps_ended()

    @rule(worker=workers, index=indexes)
    def drop(self, worker: int, index: int) -> None:
        info, jobs = self.read[worker]
        old = jobs[index]
        if old.state != "waiting" or info.state != "cancelling":
            return
        new, counts = dropped(old, info, NOW), self.is_as_read(old)
        assert self.batches.settle(BATCH, old, new, NOW) is counts
        self.wrote(new, counts=counts)
        if counts:
            self.line.remove(index)
        self.perhaps_ended()

    @rule(dice=st.integers(0, 3))
    def cancel(self, dice: int) -> None:
        if dice == 0:
            assert self.batches.cancel(BATCH, "enough", NOW) is (self.phase == "running")
            self.phase = "cancelling" if self.phase == "running" else self.phase

    @rule(worker=workers, index=indexes)
    def again(self, worker: int, index: int) -> None:
        old = self.read[worker][1][index]
        if old.state != "ended":
            return
        new = JobState(index=index, title=old.title, attempts=old.attempts)
        counts = self.is_as_read(old) and self.phase != "cancelling"
        assert self.batches.again(BATCH, old, new, 9000.0) is counts
        self.wrote(new, counts=counts)
        if counts:
            self.line.append(index)
            self.phase = "running"

    @rule()
    def submit_again(self) -> None:
        assert self.batches.submit(*self.submitted) is False

    @rule()
    def forget_too_early(self) -> None:
        if self.phase != "ended":
            with pytest.raises(ConflictError):
                self.batches.forget(BATCH)

    # --- the model -----------------------------------------------------------------------------------

    def is_as_read(self, old: JobState) -> bool:
        return self.jobs[old.index] == old

    def wrote(self, new: JobState, *, counts: bool) -> None:
        if counts:
            self.jobs[new.index] = new

    def at_work(self) -> set[int]:
        return {index for index, job in self.jobs.items() if job.state in ("starting", "running")}

    def perhaps_ended(self) -> None:
        if self.phase != "ended" and all(job.state == "ended" for job in self.jobs.values()):
            self.phase = "ended"
            self.ends += 1

    # --- what is always so ---------------------------------------------------------------------------

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        info, jobs = self.as_it_is()
        assert jobs == self.jobs
        assert info.state == self.phase
        said = [job.verdict or job.state for job in jobs.values()]
        assert {what: number for what, number in info.counts.items() if number} == {
            what: said.count(what) for what in said
        }
        key = batch_key(BATCH)
        assert [int(index) for index in self.redis.lrange(f"{key}:waiting", 0, -1)] == self.line
        assert {job.index for job in jobs.values() if job.state == "waiting"} == set(self.line)
        assert {int(index) for index in self.redis.smembers(f"{key}:going")} == self.at_work()
        assert bool(self.redis.sismember(ACTIVE_BATCHES, BATCH)) is (self.phase != "ended")
        for suffix in ("", ":jobs", ":events"):
            assert (self.redis.ttl(key + suffix) > 0) is (self.phase == "ended")
        assert (info.ended_at is None) is (self.phase != "ended")
        words = [fields.get("batch") for _, fields in self.redis.xrange(batch_events_key(BATCH))]
        assert words.count("ended") == self.ends

    def teardown(self) -> None:
        """Whatever has happened, it can be brought to its end."""
        try:
            self.batches.cancel(BATCH, "enough", NOW)
            for index in range(JOBS):
                info, jobs = self.as_it_is()
                self.read[0] = info, jobs
                if jobs[index].state == "waiting":
                    self.batches.settle(BATCH, jobs[index], dropped(jobs[index], info, NOW), NOW)
                elif jobs[index].state != "ended":
                    new = after(jobs[index], Outcome(Verdict.PASSED), PLAN, info, NOW, vm_runs=False)
                    self.batches.settle(BATCH, jobs[index], new, NOW)
            info, _ = self.as_it_is()
            assert info.state == "ended"
            assert info.done == info.total
            self.batches.forget(BATCH)
            assert not self.redis.keys(f"{batch_key(BATCH)}*")
        finally:
            self.redis.close()


def test_a_batch_stays_true_whoever_races_over_it(redis_url: str) -> None:
    run_state_machine_as_test(lambda: Machine(redis_url), settings=PROFILE)
