"""What a runner does with each verdict of the journal."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest
from farm_facts import steps

from banger.contracts import runner
from banger.contracts.calls import StageCall
from banger.contracts.errors import BangerError, CapacityError, InternalError, StageFailedError
from banger.contracts.journal import Claim, Journal, Redis, Verdict
from banger.contracts.runner import HandOverError, Next, run_step
from banger.pipelines import CREATE

CALL = steps(CREATE)[1]
UNDO = CALL.model_copy(update={"step": "u03", "direction": "undo"})
LAST_RESORT = CALL.model_copy(update={"fails_to": "error"})


class RecordingJournal(Journal):
    def __init__(self, verdict: Verdict, *, still_ours: bool = True) -> None:
        super().__init__(cast("Redis", None))
        object.__setattr__(self, "reports", [])
        object.__setattr__(self, "_verdict", verdict)
        object.__setattr__(self, "_still_ours", still_ours)

    reports: list[tuple[str, Any]]
    _verdict: Verdict
    _still_ours: bool

    def claim(self, call: StageCall, token: str) -> Claim:
        return Claim(self._verdict, token)

    def finished(self, call: StageCall, token: str, ms: float, data: dict[str, Any] | None) -> bool:
        self.reports.append(("finished", data))
        return self._still_ours

    def failed(self, call: StageCall, token: str, ms: float, error: BangerError) -> bool:
        self.reports.append(("failed", error))
        return self._still_ours

    def release(self, call: StageCall, token: str) -> bool:
        self.reports.append(("released", None))
        return self._still_ours


def run(
    verdict: Verdict, effect: Any = lambda _request: {"x": 1}, call: StageCall = CALL, **more: Any
) -> tuple[Next, BangerError | None, list[tuple[str, Any]]]:
    journal = RecordingJournal(verdict, **more)
    effects = {(call.stage, call.direction): effect}
    after, error = run_step(call, journal, effects)
    return after, error, journal.reports


def raises(error: Exception) -> Any:
    def effect(_request: object) -> None:
        raise error

    return effect


def test_a_claimed_step_is_done_and_reported() -> None:
    assert run(Verdict.GO) == (Next.CONTINUE, None, [("finished", {"x": 1})])


@pytest.mark.parametrize(
    ("verdict", "after"),
    [
        (Verdict.DONE, Next.STOP),
        (Verdict.BUSY, Next.STOP),
        (Verdict.OVER, Next.STOP),
        (Verdict.UNWINDING, Next.UNWIND),
    ],
)
def test_without_a_claim_nothing_is_done(verdict: Verdict, after: Next) -> None:
    assert run(verdict, raises(AssertionError("acted"))) == (after, None, [])


@pytest.mark.parametrize("verdict", [Verdict.CANCELLED, Verdict.BLOCKED, Verdict.EXHAUSTED])
def test_a_refusal_fails_the_step_without_acting(verdict: Verdict) -> None:
    after, error, reports = run(verdict, raises(AssertionError("acted")))
    assert after is Next.UNWIND
    assert reports == [("failed", error)]


def test_a_failure_is_reported_and_unwound() -> None:
    after, error, _ = run(Verdict.GO, raises(StageFailedError("no")))
    assert (after, type(error)) == (Next.UNWIND, StageFailedError)


def test_a_defect_is_an_internal_error_with_its_text() -> None:
    _, error, _ = run(Verdict.GO, raises(KeyError("oops")))
    assert isinstance(error, InternalError)
    assert "oops" in error.brief


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_is_no_defect_and_the_file_is_named(number: int) -> None:
    _, error, _ = run(Verdict.GO, raises(OSError(number, "No room", "/run/banger/jails/0123456789ab")))
    assert isinstance(error, CapacityError)
    assert error.brief == "The disk is full: /run/banger/jails/0123456789ab could not be written"
    _, error, _ = run(Verdict.GO, raises(OSError(number, "No room")))
    assert isinstance(error, CapacityError)


def test_a_step_that_is_handed_over_gives_its_claim_back() -> None:
    assert run(Verdict.GO, raises(HandOverError())) == (Next.RETRY, None, [("released", None)])


def test_a_failed_undo_does_not_keep_the_others_from_being_tried() -> None:
    assert run(Verdict.GO, raises(StageFailedError("no")), UNDO)[0] is Next.CONTINUE


def test_a_job_with_nothing_to_undo_ends_where_it_fails() -> None:
    assert run(Verdict.GO, raises(StageFailedError("no")), LAST_RESORT)[0] is Next.STOP


@pytest.mark.parametrize("effect", [None, raises(StageFailedError("no"))])
def test_a_step_that_comes_back_to_a_lost_claim_rings_for_what_has_waited_for_it(effect: Any) -> None:
    given = (effect,) if effect else ()
    assert run(Verdict.GO, *given, still_ours=False)[0] is Next.UNWIND


def test_a_step_of_a_vm_that_an_earlier_one_still_acts_for_is_left_alone() -> None:
    overtaking: list[tuple[Next, BangerError | None, list[tuple[str, Any]]]] = []

    def effect(_request: object) -> None:
        overtaking.append(run(Verdict.GO, raises(AssertionError("acted")), UNDO))

    after, _, _ = run(Verdict.GO, effect)
    assert overtaking == [(Next.STOP, None, [])]
    assert after is Next.CONTINUE
    assert run(Verdict.GO, call=UNDO)[0] is Next.CONTINUE


def test_an_outcome_is_reported_when_redis_is_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_INSIST_PAUSE_S", 0.0)
    away = [ConnectionError("no"), ConnectionError("no")]
    journal = RecordingJournal(Verdict.GO)
    report = journal.finished

    def finished(*args: Any) -> bool:
        if away:
            raise away.pop()
        return report(*args)

    object.__setattr__(journal, "finished", finished)
    effects = {(CALL.stage, CALL.direction): lambda _request: {"x": 1}}
    assert run_step(CALL, journal, effects) == (Next.CONTINUE, None)
    assert journal.reports == [("finished", {"x": 1})]


def test_an_outcome_is_not_reported_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_INSIST_S", 0.0)
    journal = RecordingJournal(Verdict.GO)

    def finished(*_: Any) -> bool:
        raise ConnectionError("no")

    object.__setattr__(journal, "finished", finished)
    effects = {(CALL.stage, CALL.direction): lambda _request: {"x": 1}}
    with pytest.raises(ConnectionError):
        run_step(CALL, journal, effects)
