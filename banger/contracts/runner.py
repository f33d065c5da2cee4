"""What both workers do with a step: claim it, act, report. The effects and the journal are handed in."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any

from banger.contracts.calls import StageCall
from banger.contracts.errors import (
    BangerError,
    CancelledError,
    InternalError,
    StageFailedError,
    as_banger_error,
)
from banger.contracts.journal import CANCEL, Claim, Journal, Verdict
from banger.contracts.queues import Direction
from banger.contracts.requests import StageRequest

log = logging.getLogger("banger.runner")

_INSIST_S = 45.0  # a Redis that was killed is back sooner, and reconcile looks after what takes longer
_INSIST_PAUSE_S = 0.2

_acting_for: set[str] = set()  # VMs
_lock = threading.Lock()

Effect = Callable[[StageRequest], dict[str, Any] | None]


class HandOverError(Exception):
    """An effect ends early because its worker does; whoever gets the step next is to begin it anew."""


class Next(Enum):
    """What becomes of the rest of the chain after a step."""

    CONTINUE = "continue"
    STOP = "stop"
    RETRY = "retry"  # this step goes back to its queue, and the rest with it
    UNWIND = "unwind"


def run_step(
    call: StageCall,
    journal: Journal,
    effects: Mapping[tuple[str, Direction], Effect],
) -> tuple[Next, BangerError | None]:
    """Run one step once and report it; the error is returned beside what to do next, never raised.

    A failed undo of an unwinding job is reported and the chain goes on: every undo is attempted.

    Only the delivery that did a step sends its chain on. Others are copies and end here: what they would
    make up for, should that one's worker have died, is rung again by reconcile. So does a step of a VM that
    an earlier one, whose time is over, still acts for: an undo must not overtake its own do. That one rings,
    when it comes back and finds its claim lost, for what has waited for it.
    """
    with _alone(call.vm_id) as alone:
        return _run_step(call, journal, effects) if alone else (Next.STOP, None)


@contextmanager
def _alone(vm_id: str) -> Iterator[bool]:
    """Yield whether nobody else in this process acts for the VM; if so, nobody will in the block."""
    with _lock:
        alone = vm_id not in _acting_for
        _acting_for.add(vm_id)
    try:
        yield alone
    finally:
        if alone:
            _acting_for.discard(vm_id)


def _run_step(
    call: StageCall,
    journal: Journal,
    effects: Mapping[tuple[str, Direction], Effect],
) -> tuple[Next, BangerError | None]:
    token = journal.new_token()
    claim = journal.claim(call, token)
    match claim.verdict:
        case Verdict.DONE | Verdict.BUSY | Verdict.OVER:
            return Next.STOP, None
        case Verdict.UNWINDING:
            return Next.UNWIND, None
        case Verdict.GO:
            pass
        case _:
            return _failed(call, journal, token, 0.0, _refusal(call, claim))
    started = time.monotonic()
    try:
        request = call.parse_request()
        data = effects[call.stage, call.direction](request)
    except HandOverError:
        journal.release(call, token)
        return Next.RETRY, None
    except Exception as error:
        wrapped = as_banger_error(error)
        level = logging.ERROR if isinstance(wrapped, InternalError) else logging.WARNING
        log.log(level, "%s failed: %s", call.task_id, wrapped, exc_info=isinstance(wrapped, InternalError))
        return _failed(call, journal, token, (time.monotonic() - started) * 1000, wrapped)
    took_ms = (time.monotonic() - started) * 1000
    if not _insist(lambda: journal.finished(call, token, took_ms, data)):
        log.warning(
            "%s lost its claim while it ran; its outcome is left to the claim's new holder", call.task_id
        )
        return Next.UNWIND, None
    return Next.CONTINUE, None


def _failed(
    call: StageCall, journal: Journal, token: str, ms: float, error: BangerError
) -> tuple[Next, BangerError | None]:
    if not _insist(lambda: journal.failed(call, token, ms, error)):
        return Next.UNWIND, error
    if call.unwinding:
        return Next.CONTINUE, error
    return (Next.STOP if call.fails_to else Next.UNWIND), error


def _insist(report: Callable[[], bool]) -> bool:
    """Report an outcome, if Redis is away once it is back: the claim keeps everybody else from the step.

    One that Redis took, whose answer was lost, is not ours any more: reconcile rings for what follows.
    """
    deadline = time.monotonic() + _INSIST_S
    while True:
        try:
            return report()
        except Exception as error:
            if time.monotonic() > deadline:
                raise
            log.warning("an outcome could not be reported yet: %s", error)
            time.sleep(_INSIST_PAUSE_S)


def stopped(wish: str, brief: str, details: str = "") -> BangerError:
    """Return the error of a job that is to stop: since the user wants that, or else for what ``wish`` says.

    ``brief`` is said of the former, ``details`` of the latter.
    """
    return CancelledError(brief) if wish == CANCEL else StageFailedError(wish[:200], details=details)


def _refusal(call: StageCall, claim: Claim) -> BangerError:
    if claim.verdict is Verdict.CANCELLED:
        return stopped(claim.wish, "the job was cancelled")
    if claim.verdict is Verdict.BLOCKED:
        return StageFailedError(
            f"{call.direction} of {call.stage} was not attempted",
            details="an undo before it failed: the VMM may live, or root has something of it still",
            resolution="`banger vm delete` tries again.",
        )
    return StageFailedError(
        f"{call.stage} was begun {claim.attempt - 1} times and never ended",
        details="its worker died each time: out of memory, or killed",
        resolution="See `banger farm logs` of that host.",
    )
