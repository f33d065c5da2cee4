"""A batch's verdict: the exit code, and the words for it."""

from __future__ import annotations

import pytest

from banger.batch.state import BatchInfo, JobState, Verdict
from banger.batch.verdict import describe, exit_code, headline, took_s


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ("passed passed", 0),
        ("passed failed", 1),
        ("timed_out infra_error", 1),
        ("failed cancelled infra_error", 1),
        ("infra_error cancelled passed", 3),
        ("cancelled passed", 130),
        ("", 0),
    ],
)
def test_the_exit_code_is_of_the_gravest(verdicts: str, code: int) -> None:
    assert exit_code(map(Verdict, verdicts.split())) == code


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"passed": 40}, "40 of 40 passed"),
        ({"passed": 36, "failed": 3, "infra_error": 1}, "3 of 40 failed, 1 infrastructure error"),
        ({"passed": 38, "infra_error": 2}, "38 of 40 passed, 2 infrastructure errors"),
        ({"passed": 30, "timed_out": 4, "cancelled": 6}, "30 of 40 passed, 4 timed out, 6 cancelled"),
        ({"passed": 1, "running": 3, "waiting": 36}, "1 of 40 passed, 39 not ended"),
    ],
)
def test_a_headline_tells_what_did_not_pass(counts: dict[str, int], words: str) -> None:
    batch = BatchInfo(
        id="0123456789ab",
        name="b",
        state="ended",
        image="micro",
        host="h1",
        total=40,
        counts=counts,
        created_at=1,
        deadline_at=2,
    )
    assert headline(batch) == words


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (JobState(index=0, title="t"), "waiting"),
        (JobState(index=0, title="t", verdict=Verdict.PASSED), "passed"),
        (JobState(index=0, title="t", verdict=Verdict.FAILED, exit_code=2), "failed: exit code 2"),
        (JobState(index=0, title="t", verdict=Verdict.TIMED_OUT, reason="a\n b"), "timed out (a b)"),
        (JobState(index=0, title="t", verdict=Verdict.INFRA_ERROR), "infrastructure error"),
        (JobState(index=0, title="t", verdict=Verdict.CANCELLED), "cancelled"),
    ],
)
def test_a_job_is_described_in_a_line(job: JobState, words: str) -> None:
    assert describe(job) == words


def test_words_and_times_are_bounded() -> None:
    job = JobState(index=0, title="t", verdict=Verdict.FAILED, reason="x" * 1000, began_at=5, ended_at=4)
    assert len(describe(job)) == 300
    assert took_s(job) == 0
    assert took_s(JobState(index=0, title="t", began_at=5)) is None
