"""A red job at night: what it said, a shell in the VM that it left, run again, and all of it gone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from farm_box import BANGER, DEADLINE_S, Box, eventually

from banger.batch.load import load_plan

pytestmark = pytest.mark.real

PLAN = """\
name: night
image: micro
workdir: /root/deep/work
env: {COLOUR: "deep blue"}
secrets: {TOKEN: env:TOKEN}
run:
  - echo "the token is $TOKEN" | tee said
  - printf '\\033[2J\\033[31mred\\033[0m\\n' >&2; test "$TOKEN" = open-sesame
artifacts: [said]
keep: on-failure
"""


def test_a_red_job_is_looked_into_run_again_and_forgotten(box: Box, tmp_path: Path) -> None:
    before = box.traces()
    (tmp_path / "plan.yaml").write_text(PLAN)
    batches = box.farm.batches
    with token("wrong-sesame"):
        batch = batches.submit(load_plan(tmp_path / "plan.yaml"), tmp_path).id
    eventually(lambda: batches.store.find(batch).state == "ended")
    left = batches.store.job(batch, 0)
    assert (left.verdict, left.exit_code, left.vm_kept) == ("failed", 1, True)

    logs = banger(box, "logs", "last", "0")
    assert logs.stdout == "the token is ***\nred\n"
    assert banger(box, "artifacts", "last", "--to", str(tmp_path / "out")).stderr == ""
    assert (tmp_path / "out/job-000/said").read_text() == "the token is wrong-sesame\n"
    shown = banger(box, "show", "last", "0").stdout
    assert "wait_ready" in shown
    assert f"`banger batch debug {batch} 0`" in shown
    code, screen = at_terminal(
        box, ("debug", "night", "0"), "pwd; echo $COLOUR/$TOKEN/$BANGER_TOTAL; exit 7\n"
    )
    assert code == 7
    assert "The job was at: run 2: printf" in screen
    assert "\r\n/root/deep/work\r\ndeep blue/wrong-sesame/1\r\n" in screen

    again = banger(box, "rerun", "last", "0", "--keep", token="open-sesame")
    assert (again.returncode, "the token is ***" in again.stdout) == (0, True)
    eventually(lambda: box.farm.records.get(left.vm or "") is None)
    green = json.loads(banger(box, "status", "last", "--json").stdout)["jobs"][0]
    assert (green["verdict"], green["vm_kept"], len(green["attempts"])) == ("passed", True, 2)
    assert banger(box, "logs", "last", "0", "--attempt", "1").stdout == logs.stdout
    assert box.farm.records.get(green["vm"]) is not None

    gone = banger(box, "prune", "--all", "--yes")
    assert f"VM {green['vm_name']}: deleted\n" in gone.stdout
    assert box.farm.records.get(green["vm"]) is None
    assert box.traces() == before
    eventually(lambda: batches.store.get(batch) is None)


def banger(box: Box, *words: str, token: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``banger batch ...`` to its end."""
    return subprocess.run(
        (sys.executable, "-c", BANGER, "batch", *words),
        env=box.environment | {"TOKEN": token},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE_S,
    )


def at_terminal(box: Box, words: Sequence[str], typed: str) -> tuple[int, str]:
    """Run ``banger batch ...`` on a terminal, type, and return its exit code and what was to be seen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        (sys.executable, "-c", BANGER, "batch", *words),
        env=box.environment | {"TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        os.write(ours, typed.encode())
        screen = b""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                screen += os.read(ours, 4096)
            except OSError:  # nobody has the other end any more
                break
        return process.wait(DEADLINE_S), screen.decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@contextmanager
def token(value: str) -> Iterator[None]:
    """Have this token in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN", value)
        yield
