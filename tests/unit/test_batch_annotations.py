"""What CI systems are told, where they listen; and that guests tell them nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from banger.batch.annotations import (
    append_step_summary,
    github_commands,
    github_fence,
    gitlab_sections,
    step_summary_file,
)
from banger.batch.state import BatchInfo, JobState, Tests, Verdict
from banger.batch.summary import MAX_SUMMARY_BYTES

BATCH = BatchInfo(
    id="0123456789ab",
    name="tests",
    state="ended",
    image="debian",
    host="h1",
    total=3,
    counts={"passed": 2, "failed": 1},
    created_at=1000.0,
    deadline_at=9000.0,
)
GITHUB = {"GITHUB_ACTIONS": "true"}
GITLAB = {"GITLAB_CI": "true"}


def job(verdict: Verdict, **more: object) -> JobState:
    fields = {"index": 7, "title": "python=3.12", "state": "ended", "verdict": verdict, "host": "h2"}
    return JobState.model_validate(fields | more)


@pytest.mark.parametrize("env", [{}, {"GITHUB_ACTIONS": "false"}, GITLAB])
def test_nothing_is_said_where_github_does_not_listen(env: dict[str, str]) -> None:
    assert github_commands(env, BATCH, [job(Verdict.FAILED)]) == ()
    assert github_fence(env, "token") is None
    assert step_summary_file(env | {"GITHUB_STEP_SUMMARY": "/x"}) is None


def test_each_job_that_went_wrong_is_an_error_and_the_headline_a_notice() -> None:
    tests = Tests(tests=2, failures=1, failed=("t::a",))
    lines = github_commands(
        GITHUB, BATCH, [job(Verdict.PASSED), job(Verdict.FAILED, exit_code=2, tests=tests, vm_kept=True)]
    )
    assert lines == (
        "::error title=tests%3A python=3.12::failed: exit code 2 on h2%0AFailed tests: t::a%0A"
        "Log: banger batch logs 0123456789ab 7%0AIts VM is kept: banger batch debug 0123456789ab 7",
        "::notice title=Batch tests::1 of 3 failed",
    )


def test_there_are_ten_errors_at_most() -> None:
    lines = github_commands(GITHUB, BATCH, [job(Verdict.INFRA_ERROR)] * 40)
    assert [line.split()[0] for line in lines] == ["::error"] * 10 + ["::notice"]


def test_no_guests_word_becomes_a_command() -> None:
    evil = "x::y,%0A\n::set-output name=a::b\r##[error]z"
    tests = Tests(failures=1, failed=(evil,))
    lines = github_commands(GITHUB, BATCH, [job(Verdict.FAILED, title=evil, reason=evil, tests=tests)])
    assert len(lines) == 2
    assert not any("\n" in line or "\r" in line for line in lines)
    title = lines[0].removeprefix("::error title=").split("::")[0]
    assert title == "tests%3A x%3A%3Ay%2C%250A %3A%3Aset-output name=a%3A%3Ab ##[error]z"


def test_a_fence_stops_commands_until_its_token() -> None:
    assert github_fence(GITHUB, "t0k3n") == ("::stop-commands::t0k3n", "::t0k3n::")


def test_a_step_summary_is_appended_to_while_it_fits(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    assert step_summary_file(GITHUB) is None
    assert step_summary_file(GITHUB | {"GITHUB_STEP_SUMMARY": str(path)}) == path
    path.write_text("before\n")
    assert append_step_summary(path, "## ü\n")
    assert path.read_text() == "before\n## ü\n"
    assert not append_step_summary(path, "x" * MAX_SUMMARY_BYTES)
    assert path.read_text() == "before\n## ü\n"


def test_gitlab_folds_the_last_lines_of_each_job() -> None:
    logs = [(job(Verdict.FAILED, exit_code=2), ["one", "\x1b[31mtwo"])]
    assert [*gitlab_sections({}, BATCH, logs, now=5.7)] == []
    assert [*gitlab_sections(GITLAB, BATCH, logs, now=5.7)] == [
        "\x1b[0Ksection_start:5:banger_0123456789ab_7[collapsed=true]\r\x1b[0K"
        "tests: python=3.12: failed: exit code 2",
        "one\x1b[0m",
        "\x1b[31mtwo\x1b[0m",
        "\x1b[0Ksection_end:5:banger_0123456789ab_7\r\x1b[0K",
    ]


def test_no_guest_ends_a_section() -> None:
    logs = [(job(Verdict.FAILED, title="a\nb"), ["\x1b[0Ksection_end:5:banger_0123456789ab_7\r\x1b[0K"] * 90)]
    lines = [*gitlab_sections(GITLAB, BATCH, logs, now=5)]
    assert len(lines) == 52
    assert all("\r" not in line and "\x1b[0K" not in line for line in lines[1:-1])
    assert not any("\n" in line for line in lines)
