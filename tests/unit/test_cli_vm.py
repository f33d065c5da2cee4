"""The verbs of a VM's life: what is asked of the farm, what is printed, what the exit code is."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from cli_farm import DEADLINE_S, PlayedFarm, PlayedSubmission, event, session
from farm_facts import JOB, VM, record, spec

from banger.cli import main
from banger.cli.session import Session
from banger.contracts.errors import ConflictError, StageFailedError, UnavailableError
from banger.contracts.states import State

STAGES = [
    event("begun"),
    event("started", "tap", queue="banger.root.here"),
    event("finished", "tap", queue="banger.root.here", ms=12.4),
    event("started", "wait_ready", queue="banger.work.here"),
    event("finished", "wait_ready", queue="banger.work.here", ms=4712.0),
    event("settled", state="running"),
]


@pytest.fixture
def made(tmp_path: Path) -> Session:
    return session(tmp_path)


@pytest.fixture
def farm(made: Session) -> PlayedFarm:
    assert isinstance(made.farm, PlayedFarm)
    return made.farm


def test_create_asks_for_what_was_typed(made: Session, farm: PlayedFarm) -> None:
    argv = "vm create dev --image debian --vcpus 2 --memory 1GiB --disk 16G --system-disk 4096 --nat"
    assert main([*argv.split(), "--ttl", "1h30m", "--label", "a=b", "-l", "c=", "--no-start"], made) == 0
    verb, asked, start = farm.asked[0]
    assert (verb, start) == ("create", False)
    assert asked == spec(
        image="debian",
        vcpus=2,
        memory_mib=1024,
        disk_mib=16384,
        system_overlay_mib=4096,
        nat=True,
        ttl_s=5400,
        labels={"a": "b", "c": ""},
    )


@pytest.mark.parametrize(
    ("words", "autostart"), [(["--autostart"], True), (["--no-autostart"], False), ([], False)]
)
def test_a_vm_is_booted_again_after_a_reboot_where_that_is_asked_for(
    words: list[str], autostart: bool, made: Session, farm: PlayedFarm
) -> None:
    assert main(["vm", "create", "dev", *words], made) == 0
    assert farm.asked == [("create", spec(autostart=autostart), True)]


def test_a_vm_may_ask_for_its_vmm_and_for_limits(made: Session, farm: PlayedFarm) -> None:
    words = ["--vmm", "firecracker", "--disk-rate", "50MiB", "--disk-ops", "1000", "--net-rate", "1GiB"]
    assert main(["vm", "create", "dev", *words], made) == 0
    limits = {"disk_rate_mib_s": 50, "disk_ops_s": 1000, "net_rate_mib_s": 1024}
    assert farm.asked == [("create", spec(vmm="firecracker", **limits), True)]


def test_create_fills_in_what_is_configured(made: Session, farm: PlayedFarm) -> None:
    assert main(["vm", "create", "dev"], made) == 0
    assert farm.asked == [("create", spec(), True)]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["Dev"], "'Dev' is not a VM name"),
        (["-".join("x" * 40)], "is not a VM name"),
        (["dev", "--memory", "0"], "memory '0'"),
        (["dev", "--memory", "-5"], "memory '-5' is not a size"),
        (["dev", "--disk", "lots"], "disk 'lots' is not a size"),
        (["dev", "--label", "novalue"], "label 'novalue' is not KEY=VALUE"),
        (["dev", "--label", "a=1", "--label", "a=2"], "label 'a' is given twice"),
        (["dev", "--label", "a=b c"], "labels.a: a label's value is up to 63 of"),
        (["dev", "--label", "-a=b"], "a label's key is 1 to 63 of"),
        (["dev", "--ttl", "soon"], "ttl 'soon' is not a time"),
        (["dev", "--vmm", "xen"], "vmm: should be 'auto', 'qemu' or 'firecracker'"),
        (["dev", "--disk-ops", "0"], "disk_ops_s: should be greater than or equal to 1"),
        (["dev", "--net-rate", "fast"], "net rate 'fast' is not a size"),
        (["dev", "--vmm", "qemu", "--net-rate", "5MiB"], "QEMU does not limit a guest's network"),
        (["dev", "--vmm", "firecracker", "--vcpus", "33"], "32 vCPUs at most, not 33"),
        (["dev", "--vcpus", "0"], "vcpus: should be greater than or equal to 1"),
    ],
)
def test_create_refuses_bad_input_before_anything_is_sent(
    argv: list[str], said: str, made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vm", "create", *argv], made) == 2
    assert said in capsys.readouterr().err
    assert farm.asked == []


def test_create_shows_one_plain_line_a_stage_and_then_the_vm(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.submission = PlayedSubmission(list(STAGES))
    assert main(["vm", "create", "dev"], made) == 0
    captured = capsys.readouterr()
    assert [line.split() for line in captured.err.splitlines()] == [
        ["tap", "banger.root.here", "12ms", "ok"],
        ["wait_ready", "banger.work.here", "4.7s", "ok"],
    ]
    assert captured.out.startswith("dev: running at 172.16.0.5 after ")
    assert "\x1b" not in captured.out + captured.err


def test_create_quietly_prints_the_vm_alone(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.submission = PlayedSubmission(list(STAGES))
    assert main(["vm", "create", "dev", "-q", "--json"], made) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out)["name"] == "dev"


def test_create_marks_what_is_taken_back_and_fails_with_the_reason(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = event("failed", "launch", queue="q", ms=1.0, error={"kind": "StageFailedError", "brief": "no"})
    undone = event("finished", "tap", queue="q", ms=1.0, direction="undo", unwinding=True)
    farm.submission = PlayedSubmission([failed, undone], StageFailedError("launch failed: no"))
    assert main(["vm", "create", "dev"], made) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("failed: no")
    assert lines[1].startswith("undo tap")
    assert lines[2] == "banger: launch failed: no"


def test_create_without_waiting_names_the_job(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "create", "dev", "--no-wait"], made) == 0
    assert capsys.readouterr().out == f"dev: accepted (id {VM}, job {JOB})\n"


def test_create_without_waiting_still_says_that_it_was_refused(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.submission = PlayedSubmission(end=ConflictError("a VM named 'dev' exists already"))
    assert main(["vm", "create", "dev", "--no-wait"], made) == 2
    assert capsys.readouterr().out == ""


def test_ctrl_c_cancels_a_create_and_waits_for_its_end(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert farm.submission.cancelled.wait(DEADLINE_S)

    farm.submission = PlayedSubmission(at_work=press)
    assert main(["vm", "create", "dev"], made) == 130
    said = capsys.readouterr().err
    assert said.startswith("cancelling")
    assert said.endswith("banger: cancelled; nothing is left of the VM\n")


def test_a_second_ctrl_c_leaves_the_clean_up_to_the_workers(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    def press_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert farm.submission.cancelled.wait(DEADLINE_S)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(DEADLINE_S)  # the signal ends it

    farm.submission = PlayedSubmission(at_work=press_twice)
    handler = signal.getsignal(signal.SIGINT)
    assert main(["vm", "create", "dev"], made) == 130
    assert f"the workers go on cleaning up (job {JOB})" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler


def _three(tmp_path: Path) -> tuple[Session, PlayedFarm]:
    made = session(tmp_path, *(record(id=i * 12, name=i, state=State.STOPPED) for i in "abc"))
    assert isinstance(made.farm, PlayedFarm)
    return made, made.farm


def test_several_vms_are_told_in_the_order_given_and_the_good_ones_proceed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, farm = _three(tmp_path)
    farm.errors["b"] = UnavailableError("nobody serves the queue", resolution="Start it.")
    farm.before_answer = lambda ref: time.sleep(0.1 if ref == "c" else 0)  # the first to be told ends last
    farm._to_end = lambda submission, on_event: farm.vms[0]  # type: ignore[method-assign]
    assert main(["vm", "stop", "c", "b", "a", "c"], made) == 3
    captured = capsys.readouterr()
    assert captured.out == "c: stopped\na: stopped\n"
    assert captured.err == "banger: b: nobody serves the queue\n  Start it.\n"
    assert sorted(ref for _, ref, _ in farm.asked) == ["a", "b", "c"]


def test_a_single_vm_shows_its_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, _ = _three(tmp_path)
    assert main(["vm", "start", "a"], made) == 0
    captured = capsys.readouterr()
    assert captured.err.split() == ["tap", "banger.root.here", "12ms", "ok"]
    assert captured.out == "a: running at 172.16.0.5\n"


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["stop", "a", "--timeout", "1m"], ("stop", "a", {"timeout_s": 60.0})),
        (["stop", "a"], ("stop", "a", {"timeout_s": 20.0})),
        (["stop", "a", "--timeout", "0"], ("stop", "a", {"timeout_s": 0.0})),
        (["kill", "a"], ("kill", "a", {"signal": "KILL"})),
        (["kill", "a", "--signal", "term"], ("kill", "a", {"signal": "TERM"})),
        (["restart", "a"], ("restart", "a", {"timeout_s": 20.0})),
        (["delete", "a", "--timeout", "5s"], ("delete", "a", 5.0)),
    ],
)
def test_a_verb_passes_on_its_options(argv: list[str], asked: tuple[object, ...], tmp_path: Path) -> None:
    made, farm = _three(tmp_path)
    assert main(["vm", *argv], made) == 0
    assert farm.asked == [asked]


def test_prune_deletes_what_rests_and_asks_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A failed create gives its name back: here one to a VM that runs, and one to a VM that rests.
    states = {"web": State.RUNNING, "off": State.STOPPED, "broken": State.ERROR}
    vms = [
        record(id=f"{number:012x}", name=name, state=state)
        for number, (name, state) in enumerate(states.items())
    ]
    namesakes = [
        record(id="c" * 12, name="off", state=State.ERROR, slot=None),
        record(id="d" * 12, name="web", state=State.ERROR, slot=None),
    ]
    made = session(tmp_path, *vms, *namesakes)
    assert isinstance(made.farm, PlayedFarm)
    assert main(["vm", "prune", "--dry-run"], made) == 0
    assert capsys.readouterr().out == "off\nbroken\noff (cccccccccccc)\nweb (dddddddddddd)\n"
    assert main(["vm", "prune"], made) == 2
    assert "--yes" in capsys.readouterr().err
    assert made.farm.asked == []
    assert main(["vm", "prune", "--yes"], made) == 0
    assert sorted(ref for _, ref, _ in made.farm.asked) == [vms[1].id, vms[2].id, "c" * 12, "d" * 12]
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{vm}: deleted" for vm in ("off", "broken", "off (cccccccccccc)", "web (dddddddddddd)")]
