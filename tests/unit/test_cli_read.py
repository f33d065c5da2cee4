"""Listings and details: for people and for programs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cli_farm import PlayedFarm, event, session
from farm_facts import IMAGE, VM, host, record, spec

from banger.cli import main
from banger.cli.session import Session
from banger.contracts.dm_snapshot import Overlay
from banger.contracts.inventory import FoundVm
from banger.contracts.states import State

RUNS = FoundVm(vm_id=VM, generation=1, slot=5, alive=True, vmm="firecracker", accelerator="kvm")


@pytest.fixture
def made(tmp_path: Path) -> Session:
    web = record(name="web", state=State.RUNNING, spec=spec(name="web", labels={"team": "a", "x": "1"}))
    off = record(name="off", state=State.STOPPED, address=None, created_at=time.time() - 7350)
    return session(tmp_path, web, off)


def _farm(made: Session) -> PlayedFarm:
    assert isinstance(made.farm, PlayedFarm)
    return made.farm


def test_the_list_is_aligned_and_countable(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "list"], made) == 0
    heading, web, off = capsys.readouterr().out.splitlines()
    columns = "NAME ID STATE HOST IMAGE VCPUS MEMORY ADDRESS AGE LABELS"
    assert heading.split() == columns.split()
    assert web.split()[:8] == ["web", VM, "running", "here", "micro", "1", "256MiB", "172.16.0.5"]
    assert web.endswith("team=a,x=1")
    assert off.split() == ["off", VM, "stopped", "here", "micro", "1", "256MiB", "-", "2h2m", "-"]
    assert heading.index("STATE") == web.index("running") == off.index("stopped")


def test_an_empty_list_is_its_heading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "ps"], session(tmp_path)) == 0
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["--state", "running"], ["web"]),
        (["--state", "running", "--state", "stopped"], ["web", "off"]),
        (["--label", "team"], ["web"]),
        (["--label", "team=a", "--label", "x=1"], ["web"]),
        (["--label", "team=b"], []),
    ],
)
def test_the_list_can_be_filtered(
    filters: list[str], names: list[str], made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vm", "list", "--json", *filters], made) == 0
    assert [vm["name"] for vm in json.loads(capsys.readouterr().out)] == names


def test_show_tells_a_vm_in_full(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "show", "web"], made) == 0
    said = capsys.readouterr().out
    for line in ("Name:        web", "State:       running", f"Image:       micro ({IMAGE.id})"):
        assert line in said.splitlines()
    assert str(made.settings.paths.serial_log(VM)) in said


def test_show_tells_how_full_a_system_disk_is(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    _farm(made).roots[VM] = RUNS.model_copy(update={"overlay": Overlay(percent=81.25)})
    assert main(["vm", "show", "web"], made) == 0
    assert "System disk: 8GiB for changes, 81 % used\n" in capsys.readouterr().out
    assert main(["vm", "show", "web", "--json"], made) == 0
    assert json.loads(capsys.readouterr().out)["overlay"] == {"percent": 81.25, "state": "ok"}


def test_show_tells_what_runs_a_vm(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "show", "web"], made) == 0
    assert "VMM:         auto, when it runs\n" in capsys.readouterr().out
    _farm(made).roots[VM] = RUNS
    assert main(["vm", "show", "web"], made) == 0
    assert "VMM:         firecracker, kvm\n" in capsys.readouterr().out
    assert main(["vm", "show", "web", "--json"], made) == 0
    assert json.loads(capsys.readouterr().out)["vmm"] == "firecracker, kvm"


def test_a_timeline_tells_of_a_disk_that_fills_on_its_own(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    _farm(made).past = [
        event("begun"),
        event("filling", at=1001.0, job="", pipeline="", error={"brief": "81 % used"}, id="2-0"),
        event("settled", state="running"),
        event("full", at=1002.0, job="", pipeline="", error={"brief": "100 % used"}, id="3-0"),
    ]
    assert main(["vm", "show", "web", "--timeline"], made) == 0
    _, first, second, third = capsys.readouterr().out.strip().split("\n\n")
    assert first.startswith("create -> running (")
    assert second.startswith("filling (")
    assert second.endswith(")\n81 % used")
    assert third.startswith("full (")


def test_show_tells_why_a_vm_is_in_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"kind": "StageFailedError", "stage": "tap", "brief": "no tun", "details": "x", "resolution": "y"}
    assert main(["vm", "show", "dev"], session(tmp_path, record(state=State.ERROR, error=error))) == 0
    said = capsys.readouterr().out
    assert "Error:       in tap\n             no tun\n             x\n             y\n" in said


def test_show_tells_what_failed_of_which_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"kind": "StageFailedError", "stage": "tap", "pipeline": "start", "brief": "no tun"}
    assert main(["vm", "show", "dev"], session(tmp_path, record(state=State.ERROR, error=error))) == 0
    said = capsys.readouterr().out
    assert "Error:       in tap of start\n             no tun\n" in said
    assert "`banger vm start dev` tries again, `banger vm delete dev` removes it." in said


def test_what_has_given_its_name_back_is_removed_by_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"kind": "StageFailedError", "stage": "tap", "pipeline": "create", "brief": "no tun"}
    failed = record(state=State.ERROR, slot=None, error=error)
    assert main(["vm", "show", failed.id], session(tmp_path, failed)) == 0
    said = capsys.readouterr().out
    assert f"`banger vm delete {failed.id}` removes it." in said
    assert "banger vm delete dev" not in said


def test_a_lost_vm_is_listed_without_an_address_and_shown_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"kind": "StageFailedError", "pipeline": "lose", "brief": "the host has nothing of it"}
    lost = record(state=State.LOST, slot=None, address=None, job=None, error=error)
    made = session(tmp_path, lost)
    assert main(["vm", "list", "--state", "lost"], made) == 0
    listed = capsys.readouterr().out.splitlines()[1].split()
    assert (listed[:3], "172.16.0.5" in listed) == (["dev", VM, "lost"], False)
    assert main(["vm", "show", "dev"], made) == 0
    said = capsys.readouterr().out
    assert "State:       lost\n" in said
    assert "Error:       the host has nothing of it\n" in said
    assert "Console:" not in said


def test_a_timeline_has_offsets_durations_and_marks_what_was_unwound(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = {"kind": "StageFailedError", "brief": "no tun"}
    _farm(made).past = [
        event("begun", at=1000.0),
        event("started", "overlay", at=1000.01, queue="banger.work.here"),
        event("finished", "overlay", at=1000.03, ms=20.0, queue="banger.work.here"),
        event("started", "tap", at=1000.04, queue="banger.root.here"),
        event("failed", "tap", at=1000.05, ms=10.0, queue="banger.root.here", error=failure),
        event(
            "finished",
            "overlay",
            at=1000.07,
            ms=5.0,
            queue="banger.work.here",
            direction="undo",
            unwinding=True,
        ),
        event("settled", at=1000.07, state="error"),
    ]
    assert main(["vm", "show", "web", "--timeline"], made) == 0
    lines = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert lines[0].startswith("create -> error (")
    assert [line.split() for line in lines[1:5]] == [
        ["STAGE", "QUEUE", "AT", "TOOK"],
        ["overlay", "banger.work.here", "0.010s", "20ms", "ok"],
        ["tap", "banger.root.here", "0.040s", "10ms", "failed:", "no", "tun"],
        ["undo", "overlay", "banger.work.here", "0.065s", "5ms", "unwinding"],
    ]
    assert lines[5] == "total 70ms, of which 35ms in stages"


def test_a_timeline_tells_why_a_job_began_that_nobody_asked_for(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    _farm(made).past = [
        event("found", error={"brief": "its VMM is gone"}),
        event("begun"),
        event("settled", state="stopped"),
    ]
    assert main(["vm", "show", "web", "--timeline"], made) == 0
    assert "\nbecause its VMM is gone\n" in capsys.readouterr().out


def test_a_timeline_tells_that_a_reboot_came_in_between(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    _farm(made).past = [event("begun"), event("rebooted"), event("settled", state="running")]
    assert main(["vm", "show", "web", "--timeline"], made) == 0
    assert "\nall of it once more: its host was rebooted\n" in capsys.readouterr().out


def test_a_timeline_shows_the_stage_at_work(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    _farm(made).past = [event("begun"), event("started", "launch", queue="banger.root.here")]
    assert main(["vm", "show", "web", "--timeline"], made) == 0
    assert "not over" in capsys.readouterr().out


def test_hosts_tell_what_is_used(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    two_versions = (IMAGE, IMAGE.model_copy(update={"id": "cccccccccccc"}))
    _farm(made).known_hosts = [host(images=two_versions), host("gone", alive=False)]
    assert main(["host", "list"], made) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["here", "yes", "2/253", "3/32", "512MiB/4GiB", "97.7GiB", *"---", "micro"]
    assert lines[2].split()[:2] == ["gone", "no"]
    assert main(["host", "show", "here", "--json"], made) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["free"] == {"slots": 251, "memory_mib": 3584, "vcpus": 29}
    assert main(["host", "show", "there"], made) == 2


def test_hosts_tell_what_runs_vms_there_and_why_not(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "it needs KVM, which is not proven to work on this host"
    told = {"accelerator": "tcg", "disk_backend": "reflink"}
    slow = host("slow", vmm="auto", vmm_obstacles={"firecracker": why, "qemu": ""}, **told)
    strict = slow.model_copy(update={"name": "strict", "vmm": "firecracker"})
    both = slow.model_copy(update={"name": "both", "vmm_obstacles": {"firecracker": "", "qemu": ""}})
    _farm(made).known_hosts = [slow, strict, both, host("old")]
    assert main(["host", "list"], made) == 0
    heading, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert heading[-4:] == ["VMMS", "ACCEL", "DISKS", "IMAGES"]
    assert [row[-4:-1] for row in rows] == [
        ["qemu", "tcg", "reflink"],
        ["qemu", "tcg", "reflink"],
        ["firecracker,qemu", "tcg", "reflink"],
        ["-", "-", "-"],
    ]
    shown = {}
    for name in ("slow", "strict", "both", "old"):
        assert main(["host", "show", name], made) == 0
        shown[name] = capsys.readouterr().out
    assert f"VMMs:         no firecracker: {why}\n              qemu\n" in shown["slow"]
    assert "Default VMM:  qemu (vmm = auto)\nAccelerator:  tcg\nDisk backend: reflink\n" in shown["slow"]
    assert "Default VMM:  none (vmm = firecracker)\n" in shown["strict"]
    assert "Default VMM:  firecracker (vmm = auto)\n" in shown["both"]
    assert "VMMs:         -\nDefault VMM:  -\nAccelerator:  -\nDisk backend: -\n" in shown["old"]
    assert main(["host", "list", "--json"], made) == 0
    first, second, *_ = json.loads(capsys.readouterr().out)
    assert (first["vmms"], first["default_vmm"], first["vmm"]) == (["qemu"], "qemu", "auto")
    assert first["vmm_obstacles"] == {"firecracker": why, "qemu": ""}
    assert (first["accelerator"], first["disk_backend"]) == ("tcg", "reflink")
    assert (second["default_vmm"], second["vmm"]) == (None, "firecracker")


def test_events_are_lines_and_as_json_lines_of_json(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    past = [event("finished", "tap", ms=12.0), event("settled", state="running")]
    _farm(made).__dict__["events"] = type("Events", (), {"read": lambda self, vm_id=None: past})()
    assert main(["events", ""], made) == 2, "the events of no VM are not those of all"
    assert "there is no VM ''" in capsys.readouterr().err
    assert main(["events"], made) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[2:] == ["off", "create", "tap", "finished", "after", "12ms"]
    assert second.endswith("settled: running")
    assert main(["events", "--json"], made) == 0
    assert [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()] == [
        "finished",
        "settled",
    ]


def test_the_configuration_shows_its_sources_and_no_password(
    made: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("BANGER_REDIS_URL", "rediss://cli:hunter2-for-a-test@redis.example:6379/0")
    (tmp_path / "banger").mkdir()
    (tmp_path / "banger" / "config.toml").write_text("vcpus = 3\n")
    assert main(["config", "show", "--json"], Session()) == 0
    said = capsys.readouterr().out
    assert "hunter2-for-a-test" not in said
    shown = json.loads(said)
    assert shown["redis_url"] == {
        "value": "rediss://cli:***@redis.example:6379/0",
        "source": "BANGER_REDIS_URL",
    }
    assert shown["vcpus"] == {"value": 3, "source": str(tmp_path / "banger" / "config.toml")}
    assert shown["image"] == {"value": "micro", "source": "default"}
    assert main(["config", "show"], Session()) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["names", "true", "default"] in lines, "as it is written in a file"
