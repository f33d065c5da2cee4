"""Settle those jobs of batches whose attempt has ended: with a verdict, or to wait for one more attempt."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from banger.batch.judging import FAIL_FAST, TIMED_OUT, Outcome, after, dropped, judge
from banger.batch.state import TIME_OF_JOB, Verdict
from banger.batch.vms import placed
from banger.contracts.names import new_id
from banger.contracts.queues import BEGIN, work_queue
from banger.contracts.states import State
from banger.dispatch import send
from banger.pipelines import DELETE
from banger.records import GOING_ON
from workers.starting import begin_again

if TYPE_CHECKING:
    from banger.batch.state import BatchInfo, JobState
    from banger.batch.vms import Planned
    from banger.records import Job, Record
    from workers.farmhand import Farmhand

log = logging.getLogger("banger.batches")

_LOST_S = 15.0  # after which an attempt that has not begun is ordered again
_HOST_GONE_S = 60.0
_DROPPED_AT_ONCE = 500
_FAILURES = (Verdict.FAILED, Verdict.TIMED_OUT)
_SAID = (Verdict.PASSED, Verdict.FAILED)  # what took as long as it takes


class Settler:
    """Looks at what is at work. It remembers since when hosts are away."""

    def __init__(self, farmhand: Farmhand) -> None:
        self._farmhand = farmhand
        self._batches = farmhand.batches
        self._records = farmhand.records
        self._away_since: dict[str, float] = {}  # by this process' clock

    def look_at_hosts(self) -> None:
        """Note which hosts are there."""
        away = {host.name for host in self._records.hosts() if not host.alive}
        now = time.monotonic()
        self._away_since = {host: self._away_since.get(host, now) for host in away}

    def settle(self, info: BatchInfo, planned: Planned) -> bool:
        """Settle what has ended of a batch; tell whether anything has."""
        now = self._records.now()
        if info.state == "running" and now > info.deadline_at:
            self._batches.cancel(info.id, TIMED_OUT, now)
            info = self._batches.get(info.id) or info
        changed = info.state == "cancelling" and self._drop_waiting(info, now)
        going = self._batches.going(info.id)
        jobs = self._records.jobs_of([state.job for state in going if state.job])
        for taken in going:
            job = jobs.get(taken.job or "")
            state = self._noted(info, taken) if job and taken.state == "starting" else taken
            outcome = self._outcome(info, planned, state, job, now)
            if outcome is not None:
                changed |= self._settle(info, planned, state, outcome, now)
        return changed

    def _noted(self, info: BatchInfo, state: JobState) -> JobState:
        """Note where an attempt has begun: who reserved its place may have died before that.

        Without its host nobody would miss one that vanishes, nor find what the attempt left there.
        """
        record = self._records.get(state.vm or "")
        if record is None:
            return state
        new = placed(state, record.host)
        self._batches.placed(info.id, state, new)  # who was first has written the same
        return new

    def _outcome(
        self, info: BatchInfo, planned: Planned, state: JobState, job: Job | None, now: float
    ) -> Outcome | None:
        """Return how an attempt ended; None while it has not."""
        stopped = info.state == "cancelling"
        if stopped and state.job and (job is None or job.state in GOING_ON):
            self._records.cancel(state.job)
        if job is None and stopped:  # its order, should it come yet, will be refused
            return Outcome(Verdict.CANCELLED, reason=info.reason)
        if job is None:
            return self._not_begun(info, planned, state, now)
        if job.state not in GOING_ON:
            return judge(job, self._batches.get(info.id) or info)  # it may have been cancelled a moment ago
        return self._host_gone(state, job)

    def _not_begun(self, info: BatchInfo, planned: Planned, state: JobState, now: float) -> Outcome | None:
        """Have an attempt begun that nothing has come of for a while, unless somebody wants no more of it."""
        if now - (state.began_at or now) <= _LOST_S:
            return None
        if state.job and self._records.cancelled(state.job):
            return Outcome(Verdict.CANCELLED, reason="its job was cancelled before it began")
        if self._records.get(state.vm or "") and state.job and self._records.job(state.job) is None:
            # Both are written at once. Redis was restored from an older copy, and the VM from its host.
            self._records.cancel(state.job)
            return Outcome(Verdict.INFRA_ERROR, stage="reserve", reason="the farm's memory has lost its job")
        begin_again(self._farmhand, info, planned, state)
        return None

    def _host_gone(self, state: JobState, job: Job) -> Outcome | None:
        away_s = time.monotonic() - self._away_since.get(state.host or "", time.monotonic())
        if away_s < _HOST_GONE_S:
            return None
        self._records.cancel(job.id)  # should the host come back
        reason = f"host {state.host} has been away for {away_s:.0f} s"
        return Outcome(Verdict.INFRA_ERROR, stage="host", reason=reason)

    def _settle(
        self, info: BatchInfo, planned: Planned, state: JobState, outcome: Outcome, now: float
    ) -> bool:
        record = self._records.get(state.vm or "")
        runs = record is not None and record.state is State.RUNNING
        new = after(state, outcome, planned.plan, info, now, vm_runs=runs)
        stop = FAIL_FAST if planned.plan.fail_fast and new.verdict in _FAILURES else ""
        if record is not None and not new.vm_kept:
            self._delete(record)
        if not self._batches.settle(info.id, state, new, now, stop):
            return False  # another worker was first, or the batch was cancelled: the next look tells
        log.info("batch %s: job %d: %s", info.id, state.index, outcome.verdict)
        if outcome.verdict in _SAID:
            took_s = now - (state.began_at or now)
            self._batches.remember_times(info.name, {f"{TIME_OF_JOB}{state.title}": took_s})
        return True

    def _delete(self, record: Record) -> None:
        """Order that what is left of an attempt's VM be removed, where something is."""
        if record.slot is None or record.state not in DELETE.before:
            return
        order = {"vm": record.id, "job": new_id(), "pipeline": DELETE.name, "params": {}, "rev": record.rev}
        send(self._farmhand.app, BEGIN, work_queue(record.host), order)

    def _drop_waiting(self, info: BatchInfo, now: float) -> bool:
        waiting = self._batches.waiting(info.id, _DROPPED_AT_ONCE)
        for state in waiting:
            self._batches.settle(info.id, state, dropped(state, info, now), now)
        return bool(waiting)
