"""A supervised process, with a fake in its place: readiness, death, delays, bounded logs."""

from __future__ import annotations

import subprocess
import threading

import pytest

from banger.embedded import child as child_module
from banger.embedded import logs
from banger.embedded.child import MAX_LOG_BYTES, STEADY_S, Child
from banger.embedded.plan import Service
from banger.settings import Settings


class FakeProcess:
    """A process that ends when the test says so, or when it is killed."""

    pid = 4711

    def __init__(self) -> None:
        self.code: int | None = None
        self.signals: list[str] = []

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.signals.append("TERM")

    def send_signal(self, number: int) -> None:
        self.signals.append("KILL")
        self.code = -number

    def wait(self, timeout: float | None = None) -> int:
        if self.code is None:
            raise subprocess.TimeoutExpired("fake", timeout or 0)
        return self.code


@pytest.fixture
def processes(monkeypatch) -> list[FakeProcess]:
    started: list[FakeProcess] = []

    def spawn(_argv, *, env, output):
        output.touch()
        started.append(FakeProcess())
        return started[-1]

    monkeypatch.setattr(child_module, "spawn", spawn)
    return started


@pytest.fixture
def child(tmp_path, processes) -> Child:
    return Child(
        Service(
            name="one",
            argv=("/bin/one",),
            env={},
            user="root",
            log=tmp_path / "one.log",
            serves="queue",
            ready_line="one ready.",
            stop_s=1,
        )
    )


def test_it_runs_once_its_log_says_so(child):
    child.service.log.write_text("one ready. (of an earlier process)\n")
    child.start(now=0)
    child.look(now=1)
    assert child.state == "starting"
    with child.service.log.open("a") as log:
        log.write("one ready.\n")
    child.look(now=2)
    assert child.state == "running"


def test_each_death_in_a_row_waits_longer_and_a_steady_life_forgives(child, processes):
    now, delays = 0.0, []
    for lived_s in (1, 1, 1, STEADY_S):
        child.start(now)
        processes[-1].code = 1
        now += lived_s
        child.look(now)
        before = now
        while not child.due(now):
            now += 0.25
        delays.append(now - before)
    assert delays == [0.5, 1.0, 2.0, 0.5]
    assert child.status().restarts == 3


def test_what_does_not_end_when_asked_is_killed(child, processes):
    child.start(now=0)
    child.ask_to_end()
    assert child.state == "stopping"
    child.end(deadline=0)
    assert processes[0].signals == ["TERM", "KILL"]
    assert (child.state, child.status().pid) == ("stopped", None)


def test_a_full_log_is_set_aside_and_emptied(child):
    child.start(now=0)
    child.service.log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    child.look(now=1)
    assert child.service.log.stat().st_size == 0
    assert child.service.log.with_suffix(".log.1").stat().st_size == MAX_LOG_BYTES + 1


def test_following_a_log_yields_whole_lines_as_they_come_and_survives_an_emptied_file(tmp_path, monkeypatch):
    settings = Settings(state_dir=tmp_path, run_dir=tmp_path)
    log = tmp_path / "logs" / "worker.log"
    log.parent.mkdir()
    log.write_text("first\nhal")
    turns = iter([lambda: log.write_text("first\nhalf\n"), lambda: log.write_text("new\n"), threading.Event])
    monkeypatch.setattr(logs.time, "sleep", lambda _s: next(turns)())
    lines = logs.logs(settings, "worker", follow=True)
    assert [next(lines).text for _ in range(3)] == ["first", "half", "new"]
