"""The live table of a batch: what it shows, what it leaves out, and how long a redraw takes."""

from __future__ import annotations

import io
import time

from cli_farm import event
from played_batches import info, job, passed
from rich.console import Console

from banger.batch.state import JobState
from banger.cli.batch.board import Board
from banger.cli.batch.clock import Clock
from banger.cli.batch.live import BatchLive, rows

VM = "0123456789ab"
NOW = 1030.0
REDRAW_S = 0.05  # of the processor: others may have it meanwhile


class Stopped(Clock):
    def now(self) -> float:
        return NOW


def waiting(index: int) -> JobState:
    return JobState(index=index, title=f"job {index}")


def running(index: int, **changes) -> JobState:
    fields = {"state": "running", "verdict": None, "exit_code": None, "reason": None, "ended_at": None}
    return job(index, **(fields | {"vm": VM} | changes))


def board(*jobs: JobState, past: dict[str, float] | None = None, **changes) -> Board:
    begun = {"state": "running", "ended_at": None, "total": len(jobs)}
    return Board(info(**(begun | changes)), jobs, past or {})


def screen(shown: Board, *, height: int = 40, width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(BatchLive(shown, Stopped(), console).screen())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_all_jobs_have_a_row_where_there_is_room() -> None:
    shown = board(passed(0), job(1), running(2), waiting(3), past={"job:job 2": 42.0}, why="the host is full")
    shown.event(event("started", "wait_ready", vm=VM))
    head, progress, heading, *table, foot = screen(shown)
    assert head == "batch tests 1f0c9d2e7a55  image micro  30.0s"
    assert "2/4  1 passed, 1 failed, 1 at work, 1 waiting, about" in progress
    assert heading.split() == ["JOB", "HOST", "TRY", "TIME", "LEFT", "STATE"]
    assert [line.split(maxsplit=4) for line in table] == [
        ["0", "here", "10.0s", "passed"],
        ["1", "here", "10.0s", "failed:", "exit code 2 (run 1: make test)"],
        ["2", "here", "30.0s", "12s", "wait_ready"],
        ["3", "waiting"],
    ]
    assert foot == "the next one waits: the host is full"


def test_where_there_is_no_room_those_at_work_come_first_then_those_that_went_wrong() -> None:
    jobs = [passed(index) for index in range(50)]
    jobs[40:] = [running(index) for index in range(40, 44)] + [job(index) for index in range(44, 50)]
    shown = board(*jobs)
    assert [one.index for one in rows(shown, 6)] == [40, 41, 42, 43, 44, 45]
    lines = screen(shown, height=11)
    assert len(lines) <= 11
    assert lines[-1] == "4 more that did not pass"


def test_a_job_is_followed_through_its_stages_and_its_attempts() -> None:
    shown = board(running(0, attempts=[*running(0).attempts, *running(0).attempts]))
    for kind, stage, word in (
        ("started", "launch", "launch"),
        ("finished", "launch", "launch"),
        ("started", "work", "work"),
        ("settled", "", "running"),
    ):
        shown.event(event(kind, stage, vm=VM))
        assert screen(shown)[3].split() == ["0", "here", "2", "30.0s", word]


def test_a_guests_words_do_not_steer_the_terminal_nor_break_the_table() -> None:
    shown = board(job(0, title="python=3.12", reason="run 1: \x1b[2J\nboo" + "x" * 300))
    *_, heading, row = lines = screen(shown, width=60)
    assert "\x1b" not in "".join(lines)
    assert len(lines) == 4
    assert heading.split() == ["JOB", "WHAT", "HOST", "TRY", "TIME", "LEFT", "STATE"]
    assert row.split()[:4] == ["0", "python=3.12", "here", "10.0s"]
    assert row.endswith("…")


def test_a_batch_is_said_to_last_as_long_as_its_jobs_did_before() -> None:
    past = {f"job:job {index}": 60.0 for index in range(4)}
    two_at_work = board(running(0), running(1), waiting(2), waiting(3), past=past)
    assert two_at_work.batch_left_s(NOW) == 90.0
    assert board(running(0), waiting(1)).batch_left_s(NOW) is None
    assert board(waiting(0), past=past).batch_left_s(NOW) is None


def test_a_thousand_jobs_are_drawn_in_no_time() -> None:
    jobs: list[JobState] = [passed(index) for index in range(400)]
    jobs += [job(index) for index in range(400, 420)] + [running(index) for index in range(420, 500)]
    jobs += [waiting(index) for index in range(500, 1000)]
    console = Console(file=io.StringIO(), width=140, height=50, force_terminal=True)
    view = BatchLive(
        board(*jobs, past={f"job:job {index}": 60.0 for index in range(1000)}), Stopped(), console
    )
    took = []
    for _ in range(7):
        began = time.thread_time()
        console.print(view.screen())
        took.append(time.thread_time() - began)
    assert min(took) < REDRAW_S


def test_the_clock_is_that_of_the_events() -> None:
    clock = Clock()
    clock.heard("5000-0")
    assert 5.0 <= clock.now() < 6.0
    clock.heard("3000-0")
    assert clock.now() >= 5.0
