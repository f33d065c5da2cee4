"""When a job is late, and what is done about it; a stage that hangs is reported by its own worker."""

from __future__ import annotations

from typing import Any

import pytest
from farm_facts import job, steps

from banger.contracts.errors import StageFailedError
from banger.contracts.overdue import WatchedJournal
from banger.contracts.stages import STAGES
from banger.pipelines import CREATE, DELETE, PIPELINES, RUN, START, STOP
from workers.deadlines import Late, late

BEGAN_MS = 1_000_000_000
COMMAND = {"argv": ["true"], "timeout_s": 60.0}


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=lambda pipeline: pipeline.name)
def test_a_pipeline_may_take_longer_than_any_of_its_stages(pipeline):
    assert pipeline.deadline_s > max(STAGES[row.stage].deadline_s for row in pipeline.rows)
    assert pipeline.unwinding_deadline_s <= pipeline.deadline_s


@pytest.mark.parametrize(
    ("pipeline", "changes", "after_s", "verdict"),
    [
        (START, {}, START.deadline_s - 1, None),
        (START, {}, START.deadline_s + 1, Late("the job took longer than 5000 s", cancel=True)),
        (STOP, {}, STOP.deadline_s + 1, Late("the job took longer than 4610 s", cancel=False)),
        (DELETE, {"state": "done"}, 10**6, None),
        (START, {"began_ms": 0}, 10**6, None),
        (RUN, {"params": COMMAND}, 2 * 3600, Late("the job took longer than 5790 s", cancel=True)),
        (RUN, {"params": COMMAND | {"timeout_s": 7200.0}}, 2 * 3600, None),
        (CREATE, {"state": "unwinding", "failed_ms": BEGAN_MS + 10**9}, 10**6, None),
        (
            CREATE,
            {"state": "unwinding", "failed_ms": BEGAN_MS},
            CREATE.unwinding_deadline_s + 1,
            Late("what the job did is not undone after 4250 s", cancel=False),
        ),
    ],
)
def test_who_is_late_is_told_and_cancelled_where_that_can_be(pipeline, changes, after_s, verdict):
    known = job(pipeline, **({"began_ms": BEGAN_MS} | changes))
    assert late(known, BEGAN_MS / 1000 + after_s) == verdict


class Told:
    """A Redis in which every claim is free."""

    def __init__(self) -> None:
        self.reports: list[Any] = []
        self.ours = "ok"

    def eval(self, script: str, _numkeys: int, *given: Any) -> Any:
        if "attempts" in script:
            return ["go", 1]
        self.reports.append(given)
        return self.ours


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> WatchedJournal:
    """A journal whose one step is beyond its deadline."""
    journal = WatchedJournal(Told())
    journal.claim(steps(START)[0], "t")
    monkeypatch.setitem(STAGES, "attach_system_disk", STAGES["attach_system_disk"]._replace(deadline_s=-1.0))
    return journal


def test_a_step_that_hangs_is_given_up_once(hanging: WatchedJournal) -> None:
    assert [call.stage for call in hanging.give_up()] == ["attach_system_disk"]
    (report,) = hanging.redis.reports  # type: ignore[attr-defined]
    assert any("attach_system_disk did not end within -1 s" in str(word) for word in report)
    assert hanging.give_up() == []


def test_a_step_that_hangs_while_redis_is_away_is_given_up_later(hanging: WatchedJournal) -> None:
    told: Any = hanging.redis
    there = told.eval
    told.eval = lambda *_: (_ for _ in ()).throw(ConnectionError("away"))
    with pytest.raises(ConnectionError):
        hanging.give_up()
    told.eval = there
    assert [call.stage for call in hanging.give_up()] == ["attach_system_disk"]


def test_a_step_that_another_has_by_now_is_not_ours_to_undo(hanging: WatchedJournal) -> None:
    hanging.redis.ours = "lost"  # type: ignore[attr-defined]
    assert hanging.give_up() == []


@pytest.mark.parametrize(
    "end",
    [
        lambda journal, call: journal.finished(call, "t", 1.0, None),
        lambda journal, call: journal.failed(call, "t", 1.0, StageFailedError("no")),
        lambda journal, call: journal.release(call, "t"),
    ],
)
def test_what_has_ended_is_not_watched_any_more(hanging: WatchedJournal, end) -> None:
    end(hanging, steps(START)[0])
    assert hanging.give_up() == []
