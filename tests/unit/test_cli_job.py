"""``banger job``: for people and for programs, and what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cli_farm import PlayedFarm, event, session
from farm_facts import JOB, VM, job, record

from banger.cli import main
from banger.cli.session import Session
from banger.contracts.errors import NotFoundError, WrongStateError
from banger.contracts.states import State
from banger.jobs import JobInfo, Step, job_info
from banger.pipelines import CREATE, STOP

CANCELLED = {"kind": "CancelledError", "brief": "the job was cancelled", "stage": "tap"}


class FarmWithJobs(PlayedFarm):
    """A farm whose jobs end as the test says."""

    known: list[JobInfo]
    end: JobInfo

    def jobs(self, *, ended: bool = False) -> list[JobInfo]:
        return [one for one in self.known if ended or one.going_on]

    def job(self, job: str) -> JobInfo:
        found = next((one for one in self.known if one.id == job), None)
        if found is None:
            raise NotFoundError(f"there is no job {job!r}", resolution="Look.")
        return found

    def job_steps(self, job: str) -> list[Step]:
        return [
            Step(step="01", stage="admit", direction="do", unwinding=False, mark="done", attempts=2, ms=12.4),
            Step(step="u00", stage="tap", direction="undo", unwinding=True, mark="running", error=CANCELLED),
        ]

    def cancel(self, job: str) -> None:
        if not self.job(job).cancellable:
            raise WrongStateError("a stop cannot be cancelled", resolution="Wait for its end.")
        self.asked.append(("cancel", job))

    def wait_for(self, job: str, on_event=None) -> JobInfo:
        on_event(event("finished", "tap", direction="undo", ms=3.0, queue="q", unwinding=True))
        return self.end


def _info(pipeline=CREATE, *, gone=False, cancelled=False, **changes) -> JobInfo:
    known = job(pipeline, began_ms=int(time.time() * 1000) - 2000, **changes)
    return job_info(known, None if gone else record(), cancelled=cancelled)


@pytest.fixture
def made(tmp_path: Path) -> Session:
    made = session(tmp_path, record())
    farm = FarmWithJobs(made.settings, [record()])
    farm.known = [
        _info(cancelled=True),
        _info(STOP, id="e" * 12),
        _info(id="d" * 12, state="done", gone=True),
    ]
    made.farm = farm
    return made


def farm_of(made: Session) -> FarmWithJobs:
    assert isinstance(made.farm, FarmWithJobs)
    return made.farm


def test_the_list_shows_what_is_not_over(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "list"], made) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["JOB", "VM", "PIPELINE", "STATE", "STAGE", "AGE", "HOST"]
    assert first.split()[:5] == [JOB, "dev", "create", "cancelling", "admit"]
    assert second.split()[:4] == ["e" * 12, "dev", "stop", "running"]
    assert first.split()[6] == "here"


def test_with_all_what_has_ended_is_there_too_by_its_vms_id(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["job", "list", "--all", "--json"], made) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["state"], one["name"]) for one in told] == [
        ("running", "dev"),
        ("running", "dev"),
        ("done", None),
    ]
    assert told[2]["vm"] == VM


def test_show_tells_each_step(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "show", JOB], made) == 0
    facts, steps = capsys.readouterr().out.split("\n\n")
    assert f"VM:       dev ({VM})" in facts.splitlines()
    _, done, at_work = steps.splitlines()
    assert done.split() == ["01", "admit", "done", "2", "-", "-", "12ms", "-"]
    assert at_work.split()[:5] == ["u00", "undo", "tap", "running", "-"]
    assert main(["job", "show", JOB, "--json"], made) == 0
    assert [step["mark"] for step in json.loads(capsys.readouterr().out)["steps"]] == ["done", "running"]


def test_a_job_that_has_ended_is_not_said_to_be_cancellable(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["job", "show", "d" * 12], made) == 0
    assert "Cancel:   it has ended\n" in capsys.readouterr().out


def test_cancel_waits_for_the_end_and_says_what_became_of_the_vm(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    farm = farm_of(made)
    farm.vms, farm.end = [], _info(state="failed", error=CANCELLED, gone=True)
    assert main(["job", "cancel", JOB], made) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{JOB}: cancelled; VM {VM} is gone\n"
    assert captured.err.startswith("undo tap")


def test_a_job_that_was_quicker_than_its_cancellation_is_told(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    farm = farm_of(made)
    farm.vms, farm.end = [record(state=State.RUNNING)], _info(state="done")
    assert main(["job", "cancel", JOB], made) == 0
    assert capsys.readouterr().out == f"{JOB}: it had ended before it could be cancelled; VM dev is running\n"


def test_cancel_without_waiting_only_asks(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "cancel", JOB, "--no-wait"], made) == 0
    assert capsys.readouterr().out == f"{JOB}: asked to stop\n"
    assert farm_of(made).asked == [("cancel", JOB)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [("e" * 12, "a stop cannot be cancelled"), ("f" * 12, "there is no job 'ffffffffffff'")],
)
def test_what_cannot_be_cancelled_is_refused_with_the_reason(
    asked: str, said: str, made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["job", "cancel", asked], made) == 2
    assert said in capsys.readouterr().err
