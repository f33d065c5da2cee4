"""The records against a model: whatever comes, in whatever order and however often, they stay true.

Hypothesis orders jobs, reports, duplicates, cancels, losses and restores of a few VMs that want the same few
names and slots. A plain Python model says what each must do; after each, all that Redis holds is compared.
At the end every VM is driven to be gone, and nothing may be left but what goes by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from farm_facts import IMAGE, host, spec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from banger.connection import connect
from banger.contracts.calls import StageCall
from banger.contracts.errors import (
    BangerError,
    CancelledError,
    ConflictError,
    NotFoundError,
    StageFailedError,
    WrongStateError,
)
from banger.contracts.journal import (
    FARM_EVENTS,
    Journal,
    Verdict,
    job_key,
    leases_key,
    name_key,
    vm_key,
)
from banger.contracts.states import TRANSITIONS, State, Transition
from banger.pipelines import DELETE, PIPELINES, Pipeline
from banger.planning import calls, unwinding_calls
from banger.records import Record, Records

pytestmark = pytest.mark.integration


PROFILE = settings(
    phases=[Phase.generate],
    max_examples=100,
    stateful_step_count=50,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
SLOTS = (2, 3, 4)
HOST = host(memory_mib=256 * len(SLOTS))
IDS = tuple(digit * 12 for digit in "abcde")
ERROR, CANCELLED = StageFailedError("no"), CancelledError("the job was cancelled")
MAKING = tuple(name for name, pipeline in PIPELINES.items() if not pipeline.before)
CHANGING = tuple(name for name, pipeline in PIPELINES.items() if pipeline.before)

ids, names = st.sampled_from(IDS), st.sampled_from(("one", "two", "three", "four"))
some = st.integers(0, 30)  # of what there is, counted round and round
aimed = st.sampled_from((True, True, True, False))  # at what something can come of, or at anything


@dataclass
class Run:
    """A job as it should be. ``claims`` are all that were ever made, with their tokens."""

    id: str
    vm: str
    pipeline: Pipeline
    state: str = "running"
    planned: list[StageCall] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    claims: list[tuple[StageCall, str]] = field(default_factory=list)
    undo_failed: bool = False

    @property
    def live(self) -> bool:
        return self.state in ("running", "unwinding")


@dataclass
class Vm:
    """A record as it should be; it holds name and lease while it has a slot."""

    name: str
    state: State
    slot: int | None
    rev: int = 1
    generation: int = 1
    job: str | None = None


class Machine(RuleBasedStateMachine):
    """The rules: what comes in, and what must become of it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.records = Records(connect(url))
        self.redis: Any = self.records.redis
        self.redis.flushall()
        self.journal = Journal(self.redis)
        self.vms: dict[str, Vm] = {}
        self.runs: dict[str, Run] = {}
        self.cancelled: set[str] = set()
        self.jobs = 0
        self.cause = ""
        self.seen: dict[str, Record] = {}

    # --- what comes in -----------------------------------------------------------------------------

    @rule(vm=ids, job=some, kind=st.sampled_from(MAKING), name=names, once=st.booleans(), aims=aimed)
    def reserve(self, vm: str, job: int, kind: str, name: str, once: bool, aims: bool) -> None:
        if aims:
            vm = pick([id_ for id_ in IDS if id_ not in self.vms], job) or vm
        self.reserved(vm, self.any_job(job, aims), PIPELINES[kind], name, once=once)

    def reserved(self, vm: str, job: str, pipeline: Pipeline, name: str, *, once: bool) -> None:
        self.cause = "reserve"
        free = [slot for slot in SLOTS if slot not in {known.slot for known in self.vms.values()}]
        refusal: Any = contextlib.nullcontext()
        expected = True
        fresh = job not in self.runs and vm not in self.vms
        if fresh and job in self.cancelled:
            refusal = pytest.raises(CancelledError)
        elif fresh and name in self.held_names():
            refusal = pytest.raises(ConflictError)
        elif fresh and not free:
            expected = False
        elif fresh:
            self.vms[vm] = Vm(name, State.CREATING, free[0], job=job)
            self.runs[job] = Run(job, vm, pipeline)
        with refusal:
            wanted = spec(name=name, ephemeral=once)
            attempt = {"batch": "b" * 12, "index": 0, "attempt": 1, "home": HOST.name}
            params = {"argv": ["true"], "timeout_s": 1, "batch": attempt}
            assert self.records.reserve(vm, job, pipeline, wanted, HOST, IMAGE, **params) is expected
        self.plan(job)

    @rule(vm=ids, which=some, job=some, kind=st.sampled_from(CHANGING), aims=aimed)
    def begin(self, vm: str, which: int, job: int, kind: str, aims: bool) -> None:
        pipeline = PIPELINES[kind]
        fit = [id_ for id_, known in self.vms.items() if known.state in pipeline.before]
        self.begun(pick(fit, which) or vm if aims else vm, self.any_job(job, aims), pipeline)

    def begun(self, vm: str, job: str, pipeline: Pipeline) -> None:
        self.cause = "begin"
        known = self.vms.get(vm)
        refusal: Any = contextlib.nullcontext()
        if known is None:
            refusal = pytest.raises(NotFoundError)
        elif job == known.job or job in self.runs:
            pass
        elif job in self.cancelled:
            refusal = pytest.raises(CancelledError)
        elif known.job in self.runs:
            refusal = pytest.raises(ConflictError)
        elif known.state not in pipeline.before or (known.slot is None and pipeline is not DELETE):
            refusal = pytest.raises(WrongStateError)
        else:
            known.state, known.job, known.rev = pipeline.during, job, known.rev + 1
            known.generation += pipeline.starts
            self.runs[job] = Run(job, vm, pipeline)
        with refusal:
            self.records.begin(vm, job, pipeline, {})
        self.plan(job)

    @rule(which=some, step=some, aims=aimed)
    def claim(self, which: int, step: int, aims: bool) -> None:
        """A message comes: mostly the one that is next, or any other, again or too early."""
        if run := self.any_run(which, live=aims):
            left = self.left_of(run)
            call = left[0] if left and step > 10 else pick(run.planned, step)
            if call:
                self.claimed(run, call)

    def claimed(self, run: Run, call: StageCall) -> Verdict:
        self.cause = "claim"
        token = self.journal.new_token()
        verdict = self.journal.claim(call, token).verdict
        if verdict in (Verdict.GO, Verdict.CANCELLED, Verdict.BLOCKED, Verdict.EXHAUSTED):
            assert self.open(run, call)
            assert run.marks.get(call.step) not in ("done", "failed")
            run.marks[call.step] = token
            run.claims.append((call, token))
        return verdict

    @rule(which=some, claim=some, fails=st.integers(0, 3), aims=aimed)
    def report(self, which: int, claim: int, fails: int, aims: bool) -> None:
        """A report comes: under the newest claim, or an old one; once, or again."""
        if (run := self.any_run(which, live=aims)) and run.claims:
            call, token = run.claims[-1] if claim > 10 else run.claims[claim % len(run.claims)]
            self.reported(run, call, token, None if fails else ERROR)

    @rule(which=some, count=st.sampled_from((1, 3, 6, 30, 30)), fails=st.booleans())
    def go_on(self, which: int, count: int, fails: bool) -> None:
        """A job goes on by some steps; the last of them may fail."""
        if run := self.any_run(which, live=True):
            self.carry_on(run, count, fails=fails)

    @rule(which=some, kind=st.sampled_from(CHANGING), fails_at=some)
    def whole_job(self, which: int, kind: str, fails_at: int) -> None:
        """A job comes, and goes on to its end or to its failure."""
        before = PIPELINES[kind].before
        fit = [vm for vm, known in self.vms.items() if known.slot and known.state in before]
        if vm := pick(fit, which):
            job = self.any_job(0, fresh=True)
            self.begun(vm, job, PIPELINES[kind])
            self.redis_holds_what_the_model_holds()
            if run := self.runs.get(job):
                self.carry_on(run, 1 + fails_at, fails=True)

    def carry_on(self, run: Run, count: int, *, fails: bool = False) -> None:
        for number in range(count):
            if not (left := self.left_of(run)):
                return
            call = left[0]
            verdict = self.claimed(run, call)
            if verdict is Verdict.BUSY:  # the worker that has it dies
                self.journal = Journal(self.redis)
                verdict = self.claimed(run, call)
            error = CANCELLED if verdict is Verdict.CANCELLED else ERROR
            failed = verdict is not Verdict.GO or (fails and number == count - 1)
            self.reported(run, call, run.claims[-1][1], error if failed else None)

    def reported(self, run: Run, call: StageCall, token: str, error: BangerError | None) -> None:
        self.cause = "settle"
        counts = self.open(run, call) and run.marks.get(call.step) == token
        if error:
            assert self.journal.failed(call, token, 1.0, error) is counts
        else:
            assert self.journal.finished(call, token, 1.0, None) is counts
        if counts:
            self.ended(run, call, failed=error is not None)

    def ended(self, run: Run, call: StageCall, *, failed: bool) -> None:
        """Say in the model what a report that counts does."""
        run.marks[call.step] = "failed" if failed else "done"
        final, release = call.final, call.release
        if failed and not call.unwinding:
            run.state, final, release = "unwinding", call.fails_to, False
        run.undo_failed |= failed and call.unwinding
        if final and run.undo_failed:
            final, release = "error", False
        if final is None:
            self.plan(run.id)
            return
        vm = self.vms[run.vm]
        run.state = "failed" if run.state == "unwinding" else "done"
        vm.state, vm.job, vm.rev = State(final), None, vm.rev + 1
        if release:
            vm.slot = None
        if vm.state is State.GONE:
            del self.vms[run.vm]

    @rule(which=some, aims=aimed)
    def cancel(self, which: int, aims: bool) -> None:
        self.cause = "cancel"
        job = self.any_job(which, not aims)
        run = self.runs.get(job)
        if run and not run.pipeline.cancellable:
            with pytest.raises(WrongStateError):
                self.records.cancel(job)
        else:
            self.records.cancel(job)
            self.cancelled.add(job)

    @rule(vm=ids, which=some, behind=st.sampled_from((0, 0, 1)), aims=aimed)
    def lose(self, vm: str, which: int, behind: int, aims: bool) -> None:
        at_rest = [id_ for id_, known in self.vms.items() if known.job not in self.runs]
        self.lost(pick(at_rest, which) or vm if aims else vm, behind)

    def lost(self, vm: str, behind: int) -> None:
        self.cause = "lose"
        known = self.vms.get(vm)
        rev = known.rev - behind if known else 1
        if known is None or behind or known.job in self.runs:
            assert self.records.lose(vm, rev, ERROR) is False
        elif known.state is State.LOST:
            with pytest.raises(WrongStateError):
                self.records.lose(vm, rev, ERROR)
        else:
            assert self.records.lose(vm, rev, ERROR)
            known.state, known.slot, known.job, known.rev = State.LOST, None, None, rev + 1

    @rule(
        vm=ids,
        which=some,
        name=names,
        state=st.sampled_from((State.RUNNING, State.STOPPED, State.ERROR, State.STARTING)),
        slot=st.sampled_from((*SLOTS, *SLOTS, None)),
        rev=st.integers(1, 30),
        over=st.sampled_from(("exact", "exact", "exact", "none", "stale")),
        aims=aimed,
    )
    def restore(
        self,
        vm: str,
        which: int,
        name: str,
        state: State,
        slot: int | None,
        rev: int,
        over: str,
        aims: bool,
    ) -> None:
        self.cause = "restore"
        vm = pick(list(self.vms), which) or vm if aims else vm
        known = self.vms.get(vm)
        if aims and known and known.slot:
            slot = known.slot
        seen = None if over == "none" or not known else known.rev - (over == "stale")
        record = Record(
            id=vm,
            name=name,
            state=state,
            generation=known.generation if known else 1,
            host=HOST.name,
            slot=slot,
            image=IMAGE.id,
            kernel=IMAGE.kernel,
            spec=spec(name=name),
            created_at=1.0,
            rev=rev,
        )
        holders = {other.slot: id_ for id_, other in self.vms.items() if other.slot}
        if seen != (known.rev if known else None):
            assert self.records.restore(record, over=seen) is None
        elif slot is None and state is not State.ERROR:
            with pytest.raises(WrongStateError):
                self.records.restore(record, over=seen)
        elif holders.get(slot, vm) != vm:
            with pytest.raises(ConflictError):
                self.records.restore(record, over=seen)
        elif state is State.STARTING:
            with pytest.raises(WrongStateError):
                self.records.restore(record, over=seen)
        else:
            called = f"{name}-{vm}" if slot and self.held_names().get(name, vm) != vm else name
            younger = max(rev, seen + 1) if seen is not None else rev
            if known and known.job in self.runs:
                self.runs[known.job].state = "failed"
            self.vms[vm] = Vm(called, state, slot, younger, record.generation)
            expected = record.model_copy(update={"name": called, "rev": younger})
            assert self.records.restore(record, over=seen) == expected

    @rule(which=some)
    def job_vanishes(self, which: int) -> None:
        """Redis has lost a job, and not the record."""
        self.cause = "vanish"
        if run := self.any_run(which, live=True):
            self.redis.delete(job_key(run.id))
            del self.runs[run.id]

    @rule()
    def worker_dies(self) -> None:
        self.cause = "restart"
        self.journal = Journal(self.redis)

    @rule()
    def a_week_passes(self) -> None:
        self.cause = "expire"
        over = [key for key, ttl in self.ttls(self.redis.keys("banger:*")).items() if ttl > 0]
        self.redis.delete(*over, "none")
        self.cancelled.clear()
        self.runs = {job: run for job, run in self.runs.items() if run.live}
        self.vms = {vm: known for vm, known in self.vms.items() if known.slot or known.job}

    # --- what is always so ---------------------------------------------------------------------------

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        found = {record.id: record for record in self.records.all()}
        assert {vm: (r.name, r.state, r.slot, r.rev, r.generation, r.job) for vm, r in found.items()} == {
            vm: (k.name, k.state, k.slot, k.rev, k.generation, k.job) for vm, k in self.vms.items()
        }
        holders = {vm: known for vm, known in self.vms.items() if known.slot}
        leases = {vm: f"{known.slot}:256:1" for vm, known in holders.items()}
        assert self.redis.hgetall(leases_key(HOST.name)) == leases
        assert len({known.slot for known in holders.values()}) == len(holders)
        names = list(self.redis.scan_iter(match=name_key("*"), count=1000))
        said = dict(zip(names, self.redis.mget(names), strict=True)) if names else {}
        assert said == {name_key(name): vm for name, vm in self.held_names().items()}
        self.each_change_was_legal_and_counted(found)
        self.what_is_over_goes_by_itself_and_nothing_else_does()

    def each_change_was_legal_and_counted(self, found: dict[str, Record]) -> None:
        for vm in found.keys() | self.seen.keys():
            before, after = self.seen.get(vm), found.get(vm)
            was, now = before.state if before else State.GONE, after.state if after else State.GONE
            if was is not now:
                assert Transition(self.cause, was, now) in TRANSITIONS
            if before and after:
                assert after.rev > before.rev or after == before
        self.seen = found

    def what_is_over_goes_by_itself_and_nothing_else_does(self) -> None:
        stays = {vm_key(vm): bool(known.slot or known.job) for vm, known in self.vms.items()}
        stays |= {job_key(job): run.live for job, run in self.runs.items()}
        assert {key: ttl < 0 for key, ttl in self.ttls(stays).items()} == stays
        for job, run in self.runs.items():
            assert run.live is (run.vm in self.vms and self.vms[run.vm].job == job)

    def ttls(self, keys: Iterable[str]) -> dict[str, int]:
        pipe = self.redis.pipeline(transaction=False)
        for key in keys:
            pipe.ttl(key)
        return dict(zip(keys, pipe.execute(), strict=True))

    def teardown(self) -> None:
        """Each VM can still be got rid of, from wherever it is; nothing is left of any."""
        try:
            for vm in list(self.vms):
                self.drive_to_gone(vm)
            ttls = self.ttls(self.redis.keys("banger:*"))
            assert [key for key, ttl in ttls.items() if ttl < 0] in ([], [FARM_EVENTS])
        finally:
            self.redis.close()

    def drive_to_gone(self, vm: str) -> None:
        for _ in range(20):
            known = self.vms.get(vm)
            if known is None:
                return
            if known.job in self.runs:
                self.carry_on(self.runs[known.job], 30)
            elif known.job is not None:
                self.lost(vm, 0)
            else:
                self.begun(vm, self.any_job(0, True), DELETE)
            self.redis_holds_what_the_model_holds()
        pytest.fail(f"{self.vms[vm]} cannot be brought to an end")

    # --- how -------------------------------------------------------------------------------------

    def held_names(self) -> dict[str, str]:
        return {known.name: vm for vm, known in self.vms.items() if known.slot}

    def any_run(self, number: int, *, live: bool) -> Run | None:
        found: Run | None = pick([run for run in self.runs.values() if run.live or not live], number)
        return found

    def any_job(self, number: int, fresh: bool) -> str:
        """Return the id of a job that nobody knows, or of one that is known or was cancelled."""
        known = [] if fresh else sorted(self.runs.keys() | self.cancelled)
        if not known:
            self.jobs += 1
        return str(pick(known, number)) if known else f"{self.jobs:012x}"

    def open(self, run: Run, call: StageCall) -> bool:
        """Tell whether a job waits for this step: it is one of what the job is at."""
        return run.state == ("unwinding" if call.unwinding else "running")

    def left_of(self, run: Run) -> list[StageCall]:
        ended = ("done", "failed")
        return [c for c in run.planned if self.open(run, c) and run.marks.get(c.step) not in ended]

    def plan(self, job_id: str) -> None:
        """Have a job's calls ready, as begin and unwind do."""
        run = self.runs.get(job_id)
        if run is None or not run.live or (run.planned and run.state == "running"):
            return
        record, job = self.records.get(run.vm), self.records.job(job_id)
        assert record
        assert job
        if run.state == "running":
            run.planned = calls(run.pipeline, record, job, HOST.network, HOST.uid_base)
        elif not any(call.unwinding for call in run.planned):
            run.planned = [*run.planned, *unwinding_calls(run.pipeline, record, job)]


def pick(items: list[Any], number: int) -> Any:
    return items[number % len(items)] if items else None


def test_records_stay_true_whatever_comes(redis_url: str) -> None:
    run_state_machine_as_test(lambda: Machine(redis_url), settings=PROFILE)
