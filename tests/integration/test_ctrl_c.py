"""Ctrl-C at a terminal of a real command with a real farm: what it says, its code, and what goes on."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from farm_box import BANGER, Box, eventually
from faulty_farm import Fault, FaultyFarm
from test_pipelines import NOT_WAITING

from banger.contracts.states import State

pytestmark = pytest.mark.integration

CTRL_C = b"\x03"
INTERRUPTED = 130
# As a shell does for what it runs in the foreground: a session whose terminal is its stdin, and who may be
# interrupted, which whoever runs these tests may not be.
_AT_THE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Typed:
    """A banger command at a terminal of its own."""

    def __init__(self, box: Box, *words: str) -> None:
        self._screen, end = pty.openpty()
        os.set_blocking(self._screen, False)
        argv = (sys.executable, "-c", _AT_THE_TERMINAL, sys.executable, "-c", BANGER, *words)
        env = box.environment | {"TERM": "xterm", "COLUMNS": "200"}
        self._process = subprocess.Popen(
            argv, stdin=end, stdout=end, stderr=end, env=env, cwd="/", start_new_session=True
        )
        os.close(end)
        self._seen = b""

    def press(self) -> None:
        os.write(self._screen, CTRL_C)

    def says(self, text: str) -> None:
        """Wait until the text is on the screen."""
        eventually(lambda: text in self.screen())

    def screen(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):  # the latter when the command has ended
            while chunk := os.read(self._screen, 65536):
                self._seen += chunk
        return self._seen.decode(errors="replace").replace("\r\n", "\n")

    def code(self) -> int:
        """Return the exit code; what is printed meanwhile is read, or the command would wait for us."""
        eventually(lambda: self.screen() is not None and self._process.poll() is not None)
        return self._process.returncode

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)


@pytest.fixture
def typed(faulty: FaultyFarm) -> Iterator[type]:
    made: list[Typed] = []

    def type_(*words: str) -> Typed:
        made.append(Typed(faulty.box, *words))
        return made[-1]

    yield type_  # type: ignore[misc]
    for one in made:
        one.close()


def at_work(faulty: FaultyFarm, title: str) -> str:
    """Wait until the farm's one job is at this step, and return the job."""

    def job() -> str | None:
        for info in faulty.box.farm.jobs():
            if any(
                step.title == title and step.mark == "running" for step in faulty.box.farm.job_steps(info.id)
            ):
                return info.id
        return None

    found = eventually(job)
    assert found
    return found


MAKING = [("vm", "create", "dev"), ("run", "--", "true")]


@pytest.mark.parametrize("words", MAKING, ids=" ".join)
def test_the_first_cancels_what_makes_a_vm_and_waits_until_all_is_undone(
    faulty: FaultyFarm, typed, words: tuple[str, ...]
) -> None:
    faulty.expect(Fault("work_disk", "before", "hold"))
    command = typed(*words)
    at_work(faulty, "work_disk")
    command.press()
    command.says("cancelling; what was made is being removed")
    faulty.mend()
    assert command.code() == INTERRUPTED
    assert "banger: cancelled; nothing is left of the VM" in command.screen()
    assert not faulty.box.traces()
    assert not faulty.box.farm.list()


@pytest.mark.parametrize("words", MAKING, ids=" ".join)
def test_the_second_leaves_at_once_and_the_workers_clean_up_all_the_same(
    faulty: FaultyFarm, typed, words: tuple[str, ...]
) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault("work_disk", "before", "hold"), Fault("overlay", "before", "hold", "undo"))
    command = typed(*words)
    job = at_work(faulty, "work_disk")
    command.press()
    command.says("cancelling")
    faulty.expect(Fault("overlay", "before", "hold", "undo"))
    at_work(faulty, "undo overlay")
    pressed = time.monotonic()
    command.press()
    assert command.code() == INTERRUPTED
    assert time.monotonic() - pressed < 3
    assert f"leaving; the workers go on cleaning up (job {job})" in command.screen()
    assert farm.job(job).state == "unwinding"
    faulty.mend()
    eventually(lambda: not farm.jobs())
    assert not faulty.box.traces()
    assert not farm.list()


@pytest.mark.parametrize(
    ("verb", "stage", "after"),
    [
        ("stop", "undo tap", State.STOPPED),
        ("restart", "undo tap", State.RUNNING),
        ("kill", "undo tap", State.STOPPED),
        ("delete", "undo tap", None),
    ],
)
def test_what_cannot_be_cancelled_goes_on_and_that_is_said(
    faulty: FaultyFarm, typed, verb: str, stage: str, after: State | None
) -> None:
    farm = faulty.box.farm
    faulty.expect(NOT_WAITING)
    farm.create("dev")
    faulty.expect(NOT_WAITING, Fault("tap", "before", "hold", "undo"))
    command = typed("vm", verb, "dev")
    job = at_work(faulty, stage)
    command.press()
    assert command.code() == INTERRUPTED
    said = f"leaving; the {verb} of dev goes on (job {job}, which cannot be cancelled)"
    assert said in command.screen()
    faulty.expect(NOT_WAITING)
    eventually(lambda: not farm.jobs())
    assert [record.state for record in farm.list()] == ([after] if after else [])


def test_a_start_goes_on_and_how_to_undo_it_is_said(faulty: FaultyFarm, typed) -> None:
    farm = faulty.box.farm
    farm.create("dev", start=False)
    faulty.expect(NOT_WAITING, Fault("tap", "before", "hold"))
    command = typed("vm", "start", "dev", "--quiet")
    job = at_work(faulty, "tap")
    command.press()
    assert command.code() == INTERRUPTED
    assert f"leaving; the start of dev goes on (`banger job cancel {job}` undoes it)" in command.screen()
    cancel = typed("job", "cancel", job)
    eventually(lambda: farm.job(job).cancelled)
    faulty.mend()
    assert cancel.code() == 0
    assert f"{job}: cancelled; VM dev is error" in cancel.screen()


def test_of_several_vms_each_that_goes_on_is_named(faulty: FaultyFarm, typed) -> None:
    farm = faulty.box.farm
    for name in ("one", "two"):
        farm.create(name, start=False)
    faulty.expect(Fault("work_disk", "before", "hold", "undo"))
    command = typed("vm", "delete", "one", "two")
    eventually(lambda: sum("work_disk" in (job.stage or "") for job in farm.jobs()) == 2)
    command.press()
    assert command.code() == INTERRUPTED
    for name in ("one", "two"):
        assert f"leaving; the delete of {name} goes on" in command.screen()
    faulty.mend()
    eventually(lambda: not farm.list())
