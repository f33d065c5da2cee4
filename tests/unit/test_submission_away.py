"""Following a job while Redis is away: a restart is waited out, a longer absence is told with the job."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import redis
from farm_facts import JOB, VM

from banger import submission
from banger.connection import FarmRedis
from banger.contracts.errors import StageFailedError, UnavailableError
from banger.contracts.journal import vm_events_key
from banger.pipelines import CREATE
from banger.submission import Submission


class PlayedRedis:
    """Answers, or fails, as the test says; the last answer for ever."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    def xread(self, *_: Any, **__: Any) -> object:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise UnavailableError("Redis cannot be reached", details="gone") from answer
        return answer


def _following(*answers: object) -> Submission:
    return Submission(cast("FarmRedis", PlayedRedis(*answers)), VM, JOB, CREATE, "0")


def _stream(*events: dict[str, Any]) -> list[Any]:
    """Return what Redis answers when a VM's stream has these."""
    return [(vm_events_key(VM), [(f"{n}-0", {"e": json.dumps(one)}) for n, one in enumerate(events, 1)])]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_PAUSE_S", 0.001)


def test_a_restart_of_redis_is_waited_out() -> None:
    event = {"kind": "settled", "vm": VM, "job": JOB, "pipeline": "create", "state": "running"}
    settled = _stream(event)
    waiting = _following(redis.ConnectionError("closed"), redis.TimeoutError("slow"), settled)
    assert waiting.wait().state == "running"


def test_where_redis_stays_away_the_job_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_AWAY_S", 0.01)
    with pytest.raises(UnavailableError) as caught:
        _following(redis.ConnectionError("closed")).wait()
    assert f"`banger job show {JOB}` tells how it went" in caught.value.details


def test_a_refusal_by_redis_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_AWAY_S", 3600.0)
    with pytest.raises(UnavailableError):
        _following(redis.AuthenticationError("wrong password")).wait()


def test_a_failure_without_advice_says_where_more_is_told() -> None:
    mine = {"vm": VM, "job": JOB, "pipeline": "create"}
    error = {"kind": "StageFailedError", "brief": "no tun"}
    failed = {"kind": "failed", "stage": "tap", "error": error} | mine
    with pytest.raises(StageFailedError) as caught:
        _following(_stream(failed, {"kind": "settled", "state": "error"} | mine)).wait()
    assert caught.value.resolution == f"`banger vm show {VM} --timeline` tells more."
