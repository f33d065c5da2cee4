"""What is settled of jobs at work: hosts that vanish, orders that were lost, and what is ordered for each."""

from __future__ import annotations

from typing import Any

import pytest
from batch_facts import attempt, batch, going, plan
from farm_facts import JOB, host, job, record, spec

from banger.batch.state import BatchInfo, JobState, Verdict
from banger.batch.vms import Planned
from banger.contracts.states import State
from banger.pipelines import BATCH_JOB, BATCH_JOB_KEEP
from banger.records import Job, Record
from workers import settling
from workers.settling import Settler

NOW = 1010.0
OK = {"work": {"exit_code": 0}}


class PlayedFarm:
    """Records and batches as the settler sees them: what is at work, and what it does about that."""

    def __init__(self, *jobs: JobState) -> None:
        self.records = self.batches = self
        self.settings = self.app = None
        self.redis_now = NOW
        self.info: BatchInfo = batch()
        self.states = list(jobs)
        self.jobs: dict[str, Job] = {}
        self.vm: Record | None = None
        self.others = [host("here"), host("there")]
        self.cancelled_jobs: list[str] = []
        self.stopped: list[str] = []
        self.told: list[JobState] = []
        self.noted: list[JobState] = []
        self.times: dict[str, float] = {}
        self.late = False

    def now(self) -> float:
        return self.redis_now

    def hosts(self) -> Any:
        return self.others

    def get(self, which: str) -> Any:
        return self.info if which == self.info.id else self.vm

    def going(self, _batch: str) -> list[JobState]:
        return self.states

    def waiting(self, _batch: str, _limit: int) -> list[JobState]:
        return []

    def jobs_of(self, _jobs: Any) -> dict[str, Job]:
        return self.jobs

    def job(self, which: str) -> Job | None:
        return self.jobs.get(which)

    def placed(self, _batch: str, _old: JobState, new: JobState) -> bool:
        self.noted.append(new)
        return not self.late

    def cancel(self, which: str, reason: str = "", _now: float = 0.0) -> None:
        if which != self.info.id:
            self.cancelled_jobs.append(which)
        else:
            self.stopped.append(reason)
            self.info = self.info.model_copy(update={"state": "cancelling", "reason": reason})

    def cancelled(self, job_id: str) -> bool:
        return job_id in self.cancelled_jobs

    def settle(self, _batch: str, _old: JobState, new: JobState, _now: float, stop: str = "") -> bool:
        if self.late:
            return False
        self.told.append(new)
        self.stopped += [stop] if stop else []
        return True

    def remember_times(self, _name: str, times: dict[str, float]) -> None:
        self.times |= times


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def monotonic(self) -> float:
        return self.s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(settling, "time", made)
    return made


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(
        settling, "send", lambda _app, _task, queue, order: made.append(order | {"to": queue})
    )
    return made


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    monkeypatch.setattr(settling, "begin_again", lambda _farm, _info, _plan, state: made.append(state.index))
    return made


def settle(settler: Settler, farm: PlayedFarm, **changes: Any) -> bool:
    settler.look_at_hosts()
    return settler.settle(farm.info, Planned.of(plan(**changes)))


def settler_of(farm: PlayedFarm) -> Settler:
    return Settler(farm)  # type: ignore[arg-type]


@pytest.mark.usefixtures("sent")
def test_a_job_whose_host_has_vanished_is_lost_to_it_after_a_while(clock: Clock) -> None:
    farm = PlayedFarm(going(host="there"))
    farm.jobs = {JOB: job(BATCH_JOB)}
    settler = settler_of(farm)
    farm.others = [host("here"), host("there", alive=False)]
    for clock.s in (0.0, 30.0, 59.0):
        assert settle(settler, farm) is False
    clock.s = 61.0
    assert settle(settler, farm) is True
    assert farm.cancelled_jobs == [JOB]  # should the host come back
    (new,) = farm.told
    assert (new.state, new.attempts[-1].verdict, new.attempts[-1].stage) == (
        "waiting",
        Verdict.INFRA_ERROR,
        "host",
    )
    assert new.attempts[-1].reason == "host there has been away for 61 s"
    assert farm.times == {}


def test_a_host_that_comes_back_in_time_has_lost_nothing(clock: Clock) -> None:
    farm = PlayedFarm(going(host="there"))
    farm.jobs = {JOB: job(BATCH_JOB)}
    settler = settler_of(farm)
    for clock.s, alive in ((0.0, False), (50.0, True), (55.0, False), (114.0, False)):
        farm.others = [host("there", alive=alive)]
        assert settle(settler, farm) is False
    assert farm.cancelled_jobs == farm.told == []


@pytest.mark.usefixtures("sent")
def test_an_attempt_whose_host_nobody_noted_is_noted_and_missed_with_it(clock: Clock) -> None:
    farm = PlayedFarm(going(state="starting", host=None))  # who took it has died having reserved its place
    farm.jobs, farm.vm = {JOB: job(BATCH_JOB)}, record(host="there")
    farm.others = [host("here"), host("there", alive=False)]
    settler = settler_of(farm)
    assert settle(settler, farm) is False
    (noted,) = farm.noted
    assert (noted.state, noted.host, noted.attempts[-1].host) == ("running", "there", "there")
    clock.s = 61.0
    assert settle(settler, farm) is True
    assert farm.told[0].attempts[-1].stage == "host"


@pytest.mark.usefixtures("clock", "sent")
def test_an_attempt_whose_job_redis_has_lost_is_not_ordered_for_ever(begun: list[int]) -> None:
    farm = PlayedFarm(going(began_at=NOW - 20))
    farm.vm = record(state=State.ERROR, job=None)  # its host has told of it again
    assert settle(settler_of(farm), farm) is True
    assert begun == []
    assert farm.cancelled_jobs == [JOB]
    assert farm.told[0].attempts[-1].verdict is Verdict.INFRA_ERROR


@pytest.mark.usefixtures("clock")
def test_an_attempt_that_nothing_has_come_of_is_ordered_again_after_a_while(begun: list[int]) -> None:
    farm = PlayedFarm(going(state="starting", host=None, began_at=NOW - 14))
    settler = settler_of(farm)
    assert settle(settler, farm) is False
    assert begun == []
    farm.redis_now += 2
    assert settle(settler, farm) is False
    assert begun == [0]


@pytest.mark.usefixtures("clock", "sent")
def test_an_attempt_that_was_cancelled_before_it_began_is_not_ordered_for_ever(begun: list[int]) -> None:
    farm = PlayedFarm(going(state="starting", host=None, began_at=NOW - 100))
    farm.cancelled_jobs = [JOB]
    assert settle(settler_of(farm), farm) is True
    assert begun == []
    assert farm.told[0].verdict is Verdict.CANCELLED


@pytest.mark.usefixtures("clock", "sent")
def test_in_a_batch_that_is_cancelled_each_job_is_told_to_stop() -> None:
    begun_one, not_yet = going(), going(index=1, state="starting", job="c" * 12, attempts=(attempt(),))
    farm = PlayedFarm(begun_one, not_yet)
    farm.info = batch(state="cancelling", reason="enough")
    farm.jobs = {JOB: job(BATCH_JOB)}
    assert settle(settler_of(farm), farm) is True
    assert farm.cancelled_jobs == [JOB, "c" * 12]  # one that is on its way is refused when it comes
    assert [(one.index, one.verdict, one.reason) for one in farm.told] == [(1, Verdict.CANCELLED, "enough")]


@pytest.mark.usefixtures("clock", "sent")
def test_a_batch_that_takes_too_long_is_cancelled() -> None:
    farm = PlayedFarm()
    farm.redis_now = farm.info.deadline_at + 1
    settle(settler_of(farm), farm)
    assert farm.stopped == [settling.TIMED_OUT]


@pytest.mark.parametrize(
    ("keep", "said", "state", "kept", "deleted"),
    [
        ("on-failure", {"work": {"exit_code": 1, "at": ""}}, State.RUNNING, True, False),
        ("on-failure", OK, State.RUNNING, False, True),
        ("always", OK, State.RUNNING, True, False),
        ("always", OK, State.ERROR, False, True),
        ("always", OK, None, False, False),
        ("on-failure", OK, State.DELETING, False, False),
    ],
)
@pytest.mark.usefixtures("clock")
def test_a_vm_that_is_not_kept_is_ordered_to_go(
    keep: str, said: Any, state: State | None, kept: bool, deleted: bool, sent: list[dict[str, Any]]
) -> None:
    farm = PlayedFarm(going())
    farm.jobs = {JOB: job(BATCH_JOB_KEEP, state="done", said=said)}
    farm.vm = record(state=state, job=None, rev=4, spec=spec()) if state else None
    assert settle(settler_of(farm), farm, keep=keep) is True
    assert farm.told[0].vm_kept is kept
    assert [(one["pipeline"], one["rev"], one["to"]) for one in sent] == (
        [("delete", 4, "banger.work.here")] if deleted else []
    )


@pytest.mark.usefixtures("clock", "sent")
def test_a_failure_stops_the_others_with_its_own_verdict_where_the_plan_says_so() -> None:
    for code, retries, stops in ((1, 0, True), (0, 0, False), (1, 1, False)):
        farm = PlayedFarm(going())
        farm.jobs = {JOB: job(BATCH_JOB, state="done", said={"work": {"exit_code": code, "at": ""}})}
        settle(settler_of(farm), farm, fail_fast=True, retries={"test": retries})
        assert farm.stopped == ([settling.FAIL_FAST] if stops else [])


@pytest.mark.usefixtures("clock", "sent")
def test_who_comes_second_says_and_remembers_nothing() -> None:
    farm = PlayedFarm(going())
    farm.jobs = {JOB: job(BATCH_JOB, state="done", said=OK)}
    farm.late = True
    assert settle(settler_of(farm), farm) is False
    assert farm.times == {}
    farm.late = False
    assert settle(settler_of(farm), farm) is True
    assert farm.times == {"job:job 0": NOW - 1000.0}
