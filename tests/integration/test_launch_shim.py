"""The shim with programs that misbehave in place of a VMM."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disks import UID, VM, make_host

from root_worker.host import RootHost
from root_worker.ops import serial_log
from root_worker.ops.process import alive
from root_worker.ops.signal_process import signal_and_wait
from root_worker.ops.spawn import spawn
from root_worker.vmm.jail import Launched

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
DEADLINE_S = 10

Run = Callable[..., Launched]


@pytest.fixture
def host(tmp_path: Path) -> RootHost:
    return make_host(tmp_path / "state")


@pytest.fixture
def run(host: RootHost, tmp_path: Path) -> Iterator[Run]:
    """Start a program as a VMM would be; none outlives the test."""
    started: list[Launched] = []

    def start(*argv: str, log_bytes: int = MIB) -> Launched:
        pids = os.open(tmp_path / "pids", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with serial_log.opened(host, VM, UID) as log:
            launched = spawn(
                VM, 3, argv, uid=UID, groups=(), fds=(), log=log, log_bytes=log_bytes, pid_fd=pids
            )
        os.close(pids)
        started.append(launched)
        return launched

    yield start
    for launched in started:
        for process in (launched.vmm, launched.shim):
            assert signal_and_wait(process, "KILL", DEADLINE_S)


def sizes(host: RootHost) -> tuple[int, int]:
    newer = host.paths.serial_log(VM)
    return newer.stat().st_size, newer.with_name("serial.log.1").stat().st_size


def test_a_flood_stays_within_the_limit_and_keeps_the_newest(host, run):
    launched = run("/usr/bin/seq", "1", "1000000")  # 6.9 MB
    deadline = time.monotonic() + DEADLINE_S
    largest = 0
    while alive(launched.shim):
        assert time.monotonic() < deadline
        largest = max(largest, sum(sizes(host)))
    assert largest <= MIB
    newer = host.paths.serial_log(VM)
    text = newer.with_name("serial.log.1").read_text() + newer.read_text()
    body, _, last = text.rstrip("\n").rpartition("\n")
    assert last == "[banger] the VMM exited with status 0"
    numbers = [int(line) for line in body.split("\n")[1:] if line]
    assert numbers[-1] == 1_000_000
    assert numbers == list(range(numbers[0], 1_000_001)), "nothing is lost in the middle"
    assert len(text) > MIB // 2 - 65536


def test_a_flood_does_not_end_while_the_limit_is_kept(host, run):
    launched = run("/usr/bin/yes")
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert sum(sizes(host)) <= MIB
    assert alive(launched.vmm)


def test_the_answer_is_on_file_before_the_program_runs(run, tmp_path):
    launched = run("/usr/bin/sleep", "60")
    assert Launched.model_validate_json((tmp_path / "pids").read_bytes()) == launched
    assert launched.generation == 3


def test_the_shim_ignores_the_signals_that_end_a_session(run):
    launched = run("/usr/bin/sleep", "60")
    for name in ("TERM", "INT"):
        assert not signal_and_wait(launched.shim, name, 0.05)
    assert alive(launched.vmm)


def test_the_program_outlives_its_shim(run):
    launched = run("/usr/bin/sleep", "60")
    assert signal_and_wait(launched.shim, "KILL", DEADLINE_S)
    assert alive(launched.vmm)


def test_the_log_of_an_earlier_start_is_continued(host, run):
    for word in ("first", "second"):
        launched = run("/usr/bin/echo", word)
        assert signal_and_wait(launched.shim, None, DEADLINE_S)
    log = host.paths.serial_log(VM).read_text()
    assert log.index("first") < log.index("second")
