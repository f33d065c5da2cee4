"""The summary of a batch: what did not pass comes first, guests write no markup in it, and it has a limit."""

from __future__ import annotations

import re

import pytest

from banger.batch.state import BatchInfo, JobState, Tests, Verdict
from banger.batch.summary import MAX_SUMMARY_BYTES, duration, plain, render_summary

BATCH = BatchInfo(
    id="0123456789ab",
    name="tests",
    state="ended",
    image="debian",
    host="h1",
    total=3,
    counts={"passed": 1, "failed": 1, "infra_error": 1},
    created_at=1000.0,
    ended_at=1200.0,
    deadline_at=9000.0,
)
TESTS = Tests(tests=9, failures=6, errors=1, failed=tuple(f"tests.test_a::test_{n}" for n in range(7)))


def job(index: int, verdict: Verdict, **more: object) -> JobState:
    fields = {
        "index": index,
        "title": f"python=3.{index}",
        "state": "ended",
        "verdict": verdict,
        "host": "h1",
    }
    return JobState.model_validate(fields | {"began_at": 1000.0, "ended_at": 1042.0} | more)


PASSED = job(0, Verdict.PASSED)
FAILED = job(1, Verdict.FAILED, exit_code=2, reason="run 1: make", tests=TESTS, vm_kept=True)
BROKEN = job(2, Verdict.INFRA_ERROR, stage="launch", reason="no KVM")


def test_what_did_not_pass_comes_first_with_all_there_is_to_know() -> None:
    text = render_summary(BATCH, [PASSED, FAILED, BROKEN])
    lines = text.splitlines()
    assert lines[0] == "## Batch tests: 1 of 3 failed, 1 infrastructure error"
    assert "Batch `0123456789ab` · image debian · took 3 min 20 s · 9 tests, 6 failures, 1 errors" in text
    row = next(line for line in lines if line.startswith("| 1 |"))
    assert "| python=3.1 | h1 | failed\\: exit code 2 \\(run 1\\: make\\) | 2 | 42 s |" in row
    assert "tests.test\\_a\\:\\:test\\_0<br>" in row
    assert "and 2 more" in row
    assert "`banger batch logs 0123456789ab 1`" in row
    assert text.index("| 2 |") < text.index("<details>") < text.index("| 0 |") < text.index("</details>")


def test_it_says_what_to_type_next() -> None:
    text = render_summary(BATCH, [PASSED, FAILED, BROKEN])
    for command in (
        "logs 0123456789ab 1",
        "debug 0123456789ab 1",
        "rerun 0123456789ab 1",
        "retry 0123456789ab",
    ):
        assert f"banger batch {command}" in text


def test_where_all_passed_there_is_nothing_to_look_into() -> None:
    text = render_summary(BATCH.model_copy(update={"counts": {"passed": 3}}), [PASSED])
    assert "3 of 3 passed" in text
    assert "rerun" not in text


@pytest.mark.parametrize(
    "evil",
    [
        "<script>alert(1)</script>",
        "</details><img src=x onerror=y>",
        "a | b | c",
        "`code` **bold** _it_ ~~no~~",
        "[link](http://evil.example)",
        "![image](http://evil.example/x.png)",
        "line\n\n# heading\n\n```\nfence",
        "\\| \\` &lt;script&gt;",
        "http://evil.example @someone $x$",
        "\u202eesrever\u2028\x1b[31m\x00",
    ],
)
def test_what_guests_write_is_text(evil: str) -> None:
    tests = Tests(tests=1, failures=1, failed=(evil,))
    text = render_summary(BATCH, [job(1, Verdict.FAILED, title=evil, reason=evil, tests=tests)])
    rows = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 9
    shown = plain(evil)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]()#!|~:]", shown.replace("&#64;", "").replace("&#36;", ""))
    assert not re.search(r"[<>@$]|&(?!amp;|lt;|gt;|#64;|#36;)", shown)
    assert shown.isprintable()
    assert text.count("<details>") == text.count("</details>") == 0


def test_the_largest_batch_fits() -> None:
    tests = Tests(tests=10, failures=10, failed=("_" * 160,) * 10)
    wrong = [job(n, Verdict.FAILED, title="_|" * 80, reason="|" * 300, tests=tests) for n in range(5_000)]
    fine = [job(n, Verdict.PASSED, title="_|" * 80) for n in range(5_000, 10_000)]
    text = render_summary(BATCH, [*wrong, *fine])
    assert len(text.encode()) < MAX_SUMMARY_BYTES
    assert text.count("more: `banger batch status 0123456789ab`") == 2
    assert "retry" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_words(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
