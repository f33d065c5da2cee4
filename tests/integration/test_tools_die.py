"""A worker that is killed takes the tool that it waits for along: the next one would run it a second time."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

WITHIN_S = 1.0

# Each waits for a tool, in a thread as workers have them; ``{argv}`` is the tool's.
WAYS = {
    "work-run": "from banger import shell; shell.run({argv}, deadline_s=60)",
    "work-stream": (
        "from banger import shell\n"
        "shell.stream({argv}, deadline_s=60, emit=lambda *_: None, stop=lambda: False)"
    ),
    "root-run": "from root_worker import shell; shell.run({argv}, deadline_s=60)",
    "root-sandbox": (
        "from pathlib import Path; from root_worker import shell\n"
        "from banger.contracts.sandbox import sandboxed\n"
        "shell.run({argv}, deadline_s=60, sandbox=sandboxed(399_999, shell.tool, Path('/'), None))"
    ),
}
IN_A_THREAD = "import threading\ndef work():\n    {way}\nthreading.Thread(target=work).start()\n"


def running(mark: str) -> list[int]:
    """Return who has the mark on its command line, zombies aside."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_text() and int(path.parts[2]) != os.getpid():
                found.append(int(path.parts[2]))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_until(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def worker() -> Iterator[Callable[[str, tuple[str, ...]], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(way: str, argv: tuple[str, ...]) -> subprocess.Popen[bytes]:
        code = IN_A_THREAD.format(way=WAYS[way].format(argv=argv).replace("\n", "\n    "))
        started.append(subprocess.Popen([sys.executable, "-c", code], cwd="/", stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("way", WAYS)
def test_a_tool_dies_with_the_worker_that_waits_for_it(way: str, worker) -> None:
    mark = f"60.{secrets.randbelow(10**9):09}"
    process = worker(way, ("/usr/bin/sleep", mark))
    # The worker's own command line has the mark as well; a sandbox has more processes than the tool.
    wait_until(lambda: any(pid != process.pid for pid in running(f"sleep\0{mark}")), 30)
    process.send_signal(signal.SIGKILL)
    wait_until(lambda: not running(mark) or running(mark) == [process.pid], WITHIN_S)


def test_what_a_tool_in_a_sandbox_has_started_dies_too(worker) -> None:
    mark = f"60.{secrets.randbelow(10**9):09}"
    script = f"setsid sleep {mark} & trap '' TERM; sleep {mark} & wait"
    process = worker("root-sandbox", ("/bin/sh", "-c", script))
    wait_until(lambda: len(running(f"sleep\0{mark}")) == 2, 30)
    process.send_signal(signal.SIGKILL)
    wait_until(lambda: not running(mark) or running(mark) == [process.pid], WITHIN_S)
