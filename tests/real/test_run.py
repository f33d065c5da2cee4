"""``run``: a VM for one command, gone afterwards however that ended."""

from __future__ import annotations

import pytest
from farm_box import Box

from banger.contracts.errors import CancelledError, StageFailedError
from banger.contracts.states import State
from banger.events import Event
from banger.output import Output
from banger.pipelines import RUN
from banger.submission import Submission

pytestmark = pytest.mark.real


def text(outputs: list[Output], stream: str) -> str:
    return b"".join(output.data for output in outputs if output.stream == stream).decode()


def test_the_commands_exit_code_and_output_come_back_and_the_vm_is_gone(box: Box) -> None:
    outputs: list[Output] = []
    before = box.traces()
    outcome = box.farm.run(
        ["sh", "-c", "echo out; echo err >&2; exit 7"], name="seven", on_output=outputs.append
    )
    assert (outcome.exit_code, outcome.state) == (7, State.GONE)
    assert (text(outputs, "stdout"), text(outputs, "stderr")) == ("out\n", "err\n")
    assert box.traces() == before
    assert not [record for record in box.farm.list() if record.name == "seven"]


def test_a_cancelled_run_ends_its_command_and_leaves_nothing(box: Box) -> None:
    before = box.traces()
    spec = box.farm.spec("long", ephemeral=True)
    submission = box.farm.submit_run(spec, ["sleep", "1000"], 2000.0)
    with pytest.raises(CancelledError, match="exec failed: the command was cancelled"):
        submission.wait(lambda event: _cancel_in_exec(event, submission))
    assert box.traces() == before
    assert box.farm.records.get(submission.vm_id) is None


def test_a_command_that_does_not_end_in_time_is_a_failure_and_leaves_nothing(box: Box) -> None:
    before = box.traces()
    with pytest.raises(StageFailedError, match=r"exec failed: the command did not end within 1 s"):
        box.farm.run(["sleep", "1000"], name="late", timeout_s=1)
    assert box.traces() == before


def test_a_kept_vm_is_there_after_its_command(box: Box) -> None:
    outcome = box.farm.run(["sh", "-c", "exit 3"], name="kept", keep=True)
    assert (outcome.exit_code, outcome.state) == (3, State.RUNNING)
    assert box.farm.show("kept").state is State.RUNNING
    box.farm.delete("kept")


def _cancel_in_exec(event: Event, submission: Submission) -> None:
    assert event.pipeline == RUN.name
    if (event.stage, event.kind) == ("exec", "started"):
        submission.cancel()
