"""``banger batch cancel``, ``prune`` and ``debug``: what is ordered, and what is refused, with advice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_farm import PlayedFarm
from farm_facts import VM, record, spec
from played_batches import BATCH, OLDER, attempt, batch_session, batches_of, info, job, passed, plan

from banger import shell, ssh
from banger.batch.client import BatchClient
from banger.cli import main
from banger.cli.session import Session
from banger.contracts.states import State

KEPT = {"vm_kept": True}


def kept_vm(**changes: Any) -> Any:
    return record(
        **{"name": "tests-1f0c9d-0", "state": State.RUNNING, "spec": spec(labels={"batch": BATCH})} | changes
    )


def farm_of(made: Session) -> PlayedFarm:
    assert isinstance(made.farm, PlayedFarm)
    return made.farm


@pytest.fixture
def running(tmp_path: Path) -> Session:
    return batch_session(tmp_path, job(0), state="running", ended_at=None, counts={"failed": 1, "waiting": 1})


def test_cancel_asks_by_the_batchs_id(running: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "cancel", "tests"], running) == 0
    assert capsys.readouterr().out == f"{BATCH}: asked to stop\n"
    assert [(one["do"], one["batch"]) for one in batches_of(running).orders] == [("cancel", BATCH)]


def test_cancel_can_wait_for_the_end_and_says_what_came_of_it(
    running: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(self: BatchClient, batch: str, after: str) -> Any:
        assert (batch, after) == (BATCH, "7-0")
        batches_of(running).store.known = [info(counts={"failed": 1, "cancelled": 1})]
        yield None

    monkeypatch.setattr(BatchClient, "follow", follow)
    assert main(["batch", "cancel", "last", "--wait"], running) == 0
    assert capsys.readouterr().out == f"{BATCH}: 1 of 2 failed, 1 cancelled\n"


def test_a_batch_that_has_ended_is_not_cancelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "cancel", "last"], batch_session(tmp_path, job(0))) == 2
    assert "has ended already" in capsys.readouterr().err


@pytest.fixture
def ended(tmp_path: Path) -> Session:
    made = batch_session(tmp_path, job(0, **KEPT))
    batches_of(made).store.known = [
        info(id=OLDER, name="old", state="running", ended_at=None),
        info(id=BATCH, ended_at=1060.0),
        info(id="b" * 12, name="now", ended_at=4e9),
    ]
    farm_of(made).vms = [kept_vm(), record(id="d" * 12, name="other", state=State.RUNNING)]
    return made


def forgotten(made: Session) -> list[Mapping[str, Any]]:
    return [one["batch"] for one in batches_of(made).orders if one["do"] == "forget"]


def test_prune_forgets_what_ended_long_ago_and_deletes_its_vms(
    ended: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "prune", "--yes"], ended) == 0
    assert capsys.readouterr().out == f"VM tests-1f0c9d-0: deleted\n{BATCH} (tests): forgotten\n"
    assert forgotten(ended) == [BATCH]
    assert [asked[:2] for asked in farm_of(ended).asked] == [("delete", VM)]


def test_prune_takes_all_that_have_ended_where_that_is_wanted(
    ended: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "prune", "--all", "--dry-run"], ended) == 0
    assert capsys.readouterr().out == f"{BATCH} (tests)\n{'b' * 12} (now)\nVM tests-1f0c9d-0\n"
    assert forgotten(ended) == []
    assert main(["batch", "prune", "--all", "--yes"], ended) == 0
    assert forgotten(ended) == [BATCH, "b" * 12]


def test_prune_asks_first_or_is_refused(ended: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "prune"], ended) == 2
    said = capsys.readouterr().err
    assert "and delete the VMs tests-1f0c9d-0" in said
    assert "Add --yes" in said
    assert forgotten(ended) == []


def test_a_batch_whose_vm_cannot_be_deleted_is_not_forgotten(
    ended: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    from banger.contracts.errors import UnavailableError

    farm_of(ended).errors[VM] = UnavailableError("nobody serves the queue")
    assert main(["batch", "prune", "--yes"], ended) == 3
    assert forgotten(ended) == []


@pytest.mark.parametrize(("tty", "flag"), [(True, "-tt"), (False, "-T")])
def test_debug_becomes_a_shell_in_the_jobs_directory(
    tty: bool, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[Any] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: tty, raising=False)
    monkeypatch.setattr(shell, "become", became.append)
    monkeypatch.setattr(ssh, "find_tool", lambda name: f"/usr/bin/{name}")
    made = batch_session(tmp_path, job(0, **KEPT), of=plan(workdir="/srv/there"))
    farm_of(made).vms = [kept_vm()]
    main(["batch", "debug", "last", "job 0"], made)
    assert flag in became[0]
    assert became[0][-2] == "root@172.16.0.5"
    assert "cd /srv/there" in became[0][-1]


@pytest.mark.parametrize(
    ("state", "vms", "complaint", "advice"),
    [
        (job(0), [], "was not kept", "`banger batch rerun 1f0c9d2e7a55 0 --keep`"),
        (passed(0), [], "the job ended as passed", "`keep: on-failure`"),
        (job(0, **KEPT), [], "is gone", "its time is over"),
        (job(0, **KEPT), [kept_vm(state=State.STOPPED)], "it is stopped", "`banger vm start tests-1f0c9d-0`"),
        (job(0, **KEPT), [kept_vm(host="far")], "is on host far", "Run this command on far."),
        (
            job(0, state="waiting", verdict=None, attempts=(attempt(),)),
            [],
            "it waits to be run again",
            "`banger batch status",
        ),
        (job(0, state="starting", verdict=None), [kept_vm(address=None)], "is not up yet", "in a moment"),
    ],
)
def test_debug_says_why_there_is_no_vm_and_what_to_do(
    state: Any,
    vms: list[Any],
    complaint: str,
    advice: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = batch_session(tmp_path, state)
    farm_of(made).vms = vms
    assert main(["batch", "debug", "last", "0"], made) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert advice in said
