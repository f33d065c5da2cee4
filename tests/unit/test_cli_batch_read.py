"""``banger batch list``, ``status``, ``show`` and ``schema``: for people and for programs."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from cli_farm import PlayedFarm, event
from farm_facts import JOB, VM, record
from farm_facts import job as farm_job
from played_batches import BATCH, OLDER, attempt, batch_session, batches_of, info, job, passed, plan

from banger.batch.load import parse_plan
from banger.cli import main
from banger.cli.session import Session
from banger.contracts.states import State
from banger.pipelines import BATCH_JOB


@pytest.fixture
def made(tmp_path: Path) -> Session:
    return batch_session(tmp_path, job(0), passed(1))


def said(made: Session, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["batch", *words], made) == code
    return capsys.readouterr().out


def test_the_list_has_what_goes_on_first_then_the_youngest(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    batches_of(made).store.known = [
        info(id=OLDER, name="old", state="running", ended_at=None, counts={"running": 1, "waiting": 1}),
        info(id="b" * 12, name="red"),
        info(id="c" * 12, name="green", counts={"passed": 2}),
    ]
    heading, *rows = said(made, capsys, "list").splitlines()
    assert heading.split() == ["BATCH", "NAME", "STATE", "DONE", "IMAGE", "AGE", "OUTCOME"]
    assert [row.split()[1:4] for row in rows] == [
        ["old", "running", "0/2"],
        ["green", "ended", "2/2"],
        ["red", "ended", "2/2"],
    ]
    assert rows[2].endswith("1 of 2 failed")
    told = json.loads(said(made, capsys, "list", "--json"))
    assert [(one["name"], one["exit_code"]) for one in told] == [("old", None), ("green", 0), ("red", 1)]


def test_the_list_says_what_it_leaves_out(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    batches_of(made).store.known = [info(id=f"{n:012x}") for n in range(25)]
    assert main(["batch", "list"], made) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 21
    assert captured.err == "banger: 5 older ones are left out; --all shows them\n"
    assert len(said(made, capsys, "list", "--all").splitlines()) == 26


def test_status_tells_how_it_ended_and_each_job(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    facts, jobs = said(made, capsys, "status", "tests").split("\n\n")
    lines = [" ".join(line.split()) for line in facts.splitlines()]
    assert "Jobs: 1 of 2 failed" in lines
    assert "Exit code: 1" in lines
    _, red, green = jobs.splitlines()
    assert red.split() == [
        "0",
        "job",
        "0",
        "failed",
        "-",
        "here",
        "-",
        "1",
        "10.0s",
        "2",
        *["run", "1:", "make", "test"],
    ]
    assert green.split()[3] == "passed"
    only = said(made, capsys, "status", "last", "--failed").split("\n\n")[1].splitlines()
    assert len(only) == 2


def test_status_of_one_that_goes_on_tells_stages_and_what_the_next_waits_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = job(0, state="running", verdict=None, exit_code=None, reason=None, ended_at=None)
    made = batch_session(
        tmp_path,
        running,
        job(1, state="waiting", verdict=None, attempts=(), vm=None, job=None, host=None),
        state="running",
        counts={"running": 1, "waiting": 1},
        why="no host has 512 MiB of memory free",
        deadline_at=time.time() + 3700,
        parallel=4,
    )
    known = farm_job(BATCH_JOB, steps={})
    records = made.farm.records
    monkeypatch.setattr(
        type(records), "jobs_of", lambda _self, ids: {JOB: known} if JOB in ids else {}, raising=False
    )
    facts, jobs = said(made, capsys, "status", BATCH).split("\n\n")
    assert "Next waits: no host has 512 MiB of memory free" in facts
    assert "At work:    1 running, 0 starting, 1 waiting (4 at once)" in facts
    assert "Exit code" not in facts
    assert jobs.splitlines()[1].split()[3:7] == ["running", "admit", "here", "tests-1f0c9d-0"]


def test_status_in_json_has_batch_jobs_and_exit_code(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(said(made, capsys, "status", "last", "--json"))
    assert (told["batch"]["id"], told["exit_code"], [one["verdict"] for one in told["jobs"]]) == (
        BATCH,
        1,
        ["failed", "passed"],
    )


def test_an_unknown_batch_is_refused_naming_some(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "status", "nope"], made) == 2
    captured = capsys.readouterr().err
    assert "there is no batch 'nope'" in captured
    assert BATCH in captured


FULL = """\
name: tests
image: micro
vm: {vcpus: 2, memory: 1GiB, disk: 3000MiB, nat: true, ready_timeout: 1m30s}
matrix:
  python: [3.10, "3.11"]
  exclude: [{python: 3.10}]
  include: [{python: "3.12", extra: "yes"}]
shards: 2
split: round-robin
split_files: ["tests/**/test_*.py"]
env: {LEVEL: "007", GREETING: "it's\\tme"}
secrets: {TOKEN: env:CI_TOKEN, KEY: {file: key.pem}}
upload: [src]
workdir: /srv/work
setup: [make deps]
run:
  - |
    set -x
    make test
  - "true"
artifacts: ["logs/**"]
junit: reports/*.xml
timeout: 90s
batch_timeout: 2h
retries: {infra: 2, test: 1}
keep: on-failure
keep_ttl: 1500ms
max_parallel: 3
fail_fast: true
host: here
"""


def test_the_plan_is_shown_as_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = parse_plan(FULL.replace("1500ms", "1.5s").encode(), "plan.yaml")
    made = batch_session(tmp_path, job(0), of=given)
    shown = said(made, capsys, "show", "last")
    assert shown.splitlines()[0].split() == ["#", "Batch:", BATCH]
    assert parse_plan(shown.encode(), "shown") == given
    assert "- |\n  set -x\n  make test\n" in shown
    told = json.loads(said(made, capsys, "show", "last", "--json"))
    assert told["plan"]["secrets"]["TOKEN"]["env"] == "CI_TOKEN"


def test_a_job_is_shown_with_each_attempt_and_what_happened_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = (
        attempt(1, vm="c" * 12, verdict="infra_error", exit_code=None, stage="launch", reason="no room"),
        attempt(2),
    )
    made = batch_session(
        tmp_path,
        job(
            0,
            attempts=tried,
            vm_kept=True,
            ended_at=time.time() - 1000,
            files={"artifacts": 3},
            notes=("junit: no file of the guest matches",),
            tests={"tests": 5, "failures": 1, "failed": ("test_x",)},
        ),
        of=plan(setup=("make deps",), env={"MINE": "1"}),
    )
    farm = made.farm
    assert isinstance(farm, PlayedFarm)
    farm.vms = [record(state=State.RUNNING, spec=farm.vms[0].spec.model_copy(update={"ttl_s": time.time()}))]
    past = [event("finished", "launch", queue="q", ms=5.0), event("settled", state="running")]

    class Told:
        def read(self, vm: str) -> list[object]:
            return past if vm == VM else []

    farm.events = Told()  # type: ignore[assignment]
    out = said(made, capsys, "show", "last", "job 0")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "State: failed: exit code 2 (run 1: make test)",
        f"`banger batch debug {BATCH} 0` opens a shell in it",
        "Files left: 3 of artifacts",
        "Notes: junit: no file of the guest matches",
        "test_x",
        "Variables: BANGER_INDEX=0",
        "its VM's timeline is not known any more",
    ):
        assert line in lines, line
    assert re.search("running, kept for [34][0-9]m[0-9]+s yet", out)
    rows = [line.split() for line in out.splitlines() if line[:1] in "12" and "here" in line]
    assert [row[1:4] for row in rows] == [["infra_error", "launch", "-"], ["failed", "-", "2"]]
    assert "Attempt 2\ncreate -> running" in out
    told = json.loads(said(made, capsys, "show", "last", "0", "--json"))
    assert [one["stage"] for one in told["timelines"]["2"]] == ["launch", ""]
    assert told["variables"]["BANGER_TOTAL"] == "1"
    assert "MINE" not in told["variables"]


def test_the_schema_is_json(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(said(made, capsys, "schema"))["title"] == "banger batch plan"
