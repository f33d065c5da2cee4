"""Every way in which an attempt can end, and what becomes of its job then."""

from __future__ import annotations

from typing import Any

import pytest
from batch_facts import attempt, batch, going, plan
from farm_facts import job

from banger.batch.judging import FAIL_FAST, TIMED_OUT, Outcome, after, dropped, judge, keeps
from banger.batch.state import JobState, Tests, Verdict
from banger.contracts.errors import BangerError, CancelledError, GuestUnreachableError, StageFailedError
from banger.pipelines import BATCH_JOB
from banger.records import Job

NOW = 1500.0
PASSED, FAILED, TIMED, INFRA, CANCELLED = Verdict
CANCELLING = batch(state="cancelling", reason="it was cancelled")
LATE = batch(state="cancelling", reason=TIMED_OUT)


def ended(work: dict[str, Any] | None = None, *, collect: dict[str, Any] | None = None, **more: Any) -> Job:
    said = {"work": work} if work is not None else {}
    said |= {"collect": collect} if collect is not None else {}
    return job(BATCH_JOB, state="failed" if "error" in more else "done", said=said, **more)


def failed(stage: str, error: BangerError | None = None) -> dict[str, Any]:
    return (error or StageFailedError("no")).to_wire() | {"stage": stage, "pipeline": "batch"}


@pytest.mark.parametrize(
    ("found", "verdict", "code", "stage", "reason"),
    [
        (ended({"exit_code": 0}), PASSED, 0, None, None),
        (ended({"exit_code": 7, "at": "run 1: make"}), FAILED, 7, None, "run 1: make"),
        (ended({"exit_code": 137, "at": ""}), FAILED, 137, None, ""),
        (ended({"timed_out": True, "at": "run 1: make"}), TIMED, None, None, "run 1: make"),
        (ended(error=failed("launch")), INFRA, None, "launch", "no"),
        (ended(error=failed("upload")), INFRA, None, "upload", "no"),
        (ended(error=failed("work", GuestUnreachableError("gone"))), INFRA, None, "work", "gone"),
        (ended(error={"kind": "StageFailedError"}), INFRA, None, None, "its job ended and does not say why"),
        (ended(), INFRA, None, None, "its job ended and does not say why"),
    ],
)
def test_an_attempt_is_judged_by_what_its_command_said_or_did_not(
    found: Job, verdict: Verdict, code: int | None, stage: str | None, reason: str | None
) -> None:
    outcome = judge(found, batch())
    assert (outcome.verdict, outcome.exit_code, outcome.stage, outcome.reason) == (
        verdict,
        code,
        stage,
        reason,
    )


@pytest.mark.parametrize(
    ("info", "verdict", "reason"),
    [
        (batch(), CANCELLED, "it was cancelled"),  # the job alone was
        (CANCELLING, CANCELLED, "it was cancelled"),
        (batch(state="cancelling", reason=FAIL_FAST), CANCELLED, FAIL_FAST),
        (LATE, TIMED, TIMED_OUT),
    ],
)
def test_what_was_cut_off_is_cancelled_or_timed_out_with_its_batch(
    info: Any, verdict: Verdict, reason: str
) -> None:
    outcome = judge(ended(error=failed("work", CancelledError("stopped"))), info)
    assert (outcome.verdict, outcome.reason) == (verdict, reason)


@pytest.mark.parametrize("stage", ["collect", "launch"])
def test_what_fails_after_the_command_has_spoken_is_noted_and_changes_nothing(stage: str) -> None:
    for error in (StageFailedError("no"), CancelledError("no")):
        outcome = judge(ended({"exit_code": 0}, error=failed(stage, error)), CANCELLING)
        assert outcome.verdict is PASSED
        assert outcome.notes == (f"{stage} failed afterwards: no",)


def test_what_was_collected_is_told() -> None:
    tests = Tests(tests=3, failures=1, failed=("test_x",))
    said = {"files": {"junit": 1}, "tests": tests.model_dump(mode="json"), "notes": ["artifacts: none"]}
    outcome = judge(ended({"exit_code": 1, "at": "run 1: x"}, collect=said), batch())
    assert (outcome.tests, outcome.files, outcome.notes) == (tests, {"junit": 1}, ("artifacts: none",))


def test_a_reason_is_bounded() -> None:
    outcome = judge(ended(error=failed("launch", StageFailedError("x" * 10_000))), batch())
    assert len(outcome.reason or "") == 500


# --- one more attempt ------------------------------------------------------------------------------


def attempts_of(*verdicts: Verdict) -> JobState:
    """A job whose earlier attempts ended so, with one more that is carried out."""
    told = [attempt(number, verdict=verdict) for number, verdict in enumerate(verdicts, 1)]
    return going(attempts=(*told, attempt(len(told) + 1)))


@pytest.mark.parametrize(
    ("retries", "before", "verdict", "again"),
    [
        ({}, (), PASSED, False),
        ({}, (), FAILED, False),
        ({}, (), TIMED, False),
        ({}, (), INFRA, True),
        ({}, (INFRA,), INFRA, False),
        ({}, (), CANCELLED, False),
        ({"infra": 0}, (), INFRA, False),
        ({"infra": 2}, (INFRA,), INFRA, True),
        ({"test": 1}, (), FAILED, True),
        ({"test": 1}, (FAILED,), FAILED, False),
        ({"test": 1}, (FAILED,), TIMED, False),
        ({"test": 1}, (TIMED,), INFRA, True),  # of another account
        ({"test": 1}, (INFRA,), FAILED, True),
        ({"test": 1, "infra": 1}, (FAILED, INFRA), FAILED, False),
        ({"test": 5, "infra": 5}, (), CANCELLED, False),
    ],
)
def test_each_kind_of_failure_is_tried_again_on_its_own_account(
    retries: dict[str, int], before: tuple[Verdict, ...], verdict: Verdict, again: bool
) -> None:
    old = attempts_of(*before)
    new = after(old, Outcome(verdict), plan(retries=retries), batch(), NOW, vm_runs=False)
    assert new.state == ("waiting" if again else "ended")
    assert new.verdict == (None if again else verdict)
    assert [one.verdict for one in new.attempts] == [*before, verdict]
    assert new.attempts[-1].ended_at == NOW


def test_one_that_waits_again_says_nothing_of_its_last_attempt_but_in_its_attempts() -> None:
    outcome = Outcome(INFRA, stage="launch", reason="no", files={"junit": 1}, notes=("x",))
    new = after(going(), outcome, plan(), batch(), NOW, vm_runs=True)
    (last,) = new.attempts
    assert (last.verdict, last.stage, last.reason) == (INFRA, "launch", "no")
    assert new == JobState(index=0, title="job 0", attempts=new.attempts)


@pytest.mark.parametrize("info", [CANCELLING, LATE])
def test_a_batch_that_is_cancelled_tries_nothing_again(info: Any) -> None:
    new = after(going(), Outcome(INFRA), plan(retries={"infra": 5}), info, NOW, vm_runs=False)
    assert (new.state, new.verdict, new.ended_at) == ("ended", INFRA, NOW)


def test_one_that_has_ended_says_how() -> None:
    outcome = Outcome(FAILED, 3, reason="run 1: x", tests=Tests(tests=1), files={"junit": 1}, notes=("n",))
    new = after(going(), outcome, plan(), batch(), NOW, vm_runs=False)
    assert (new.state, new.exit_code, new.reason, new.tests) == ("ended", 3, "run 1: x", Tests(tests=1))
    assert (new.files, new.notes, new.host, new.vm) == ({"junit": 1}, ("n",), "here", going().vm)
    assert JobState.model_validate_json(new.to_json()) == new


# --- keeping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("never", set()), ("on-failure", {FAILED, TIMED, INFRA}), ("always", {PASSED, FAILED, TIMED, INFRA})],
)
def test_a_vm_is_kept_as_the_plan_says_and_never_for_what_was_cancelled(
    keep: Any, kept: set[Verdict]
) -> None:
    assert {verdict for verdict in Verdict if keeps(keep, verdict)} == kept


def test_a_vm_is_kept_where_who_ran_the_job_again_wanted_it_through_all_attempts() -> None:
    wanted = plan(keep="never", retries={"infra": 1})
    broken = after(going(keep=True), Outcome(Verdict.INFRA_ERROR), wanted, batch(), 5.0, vm_runs=True)
    assert (broken.state, broken.keep) == ("waiting", True)
    for verdict, kept in ((Verdict.PASSED, True), (Verdict.FAILED, True), (Verdict.CANCELLED, False)):
        ended = after(going(keep=True), Outcome(verdict), wanted, batch(), 5.0, vm_runs=True)
        assert ended.vm_kept is kept


def test_a_vm_that_is_not_there_is_not_kept_and_one_that_is_tried_again_is_not_either() -> None:
    wanted = plan(keep="always", retries={"infra": 1})
    for verdict, vm_runs, kept in ((FAILED, True, True), (FAILED, False, False), (INFRA, True, False)):
        new = after(going(), Outcome(verdict), wanted, batch(), NOW, vm_runs=vm_runs)
        assert new.vm_kept is kept


# --- what was never begun ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "attempts", "verdict"),
    [
        (CANCELLING, (), CANCELLED),
        (LATE, (), CANCELLED),
        (LATE, (attempt(verdict=FAILED),), TIMED),  # it was cut off between two attempts
        (CANCELLING, (attempt(verdict=FAILED),), CANCELLED),
    ],
)
def test_what_waits_in_a_batch_that_is_cancelled_is_not_begun(
    info: Any, attempts: Any, verdict: Verdict
) -> None:
    new = dropped(JobState(index=0, title="job 0", attempts=attempts), info, NOW)
    assert (new.state, new.verdict, new.reason, new.ended_at) == ("ended", verdict, info.reason, NOW)
    assert new.attempts == attempts
