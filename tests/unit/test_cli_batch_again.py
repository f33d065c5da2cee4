"""``banger batch retry``, ``rerun`` and ``artifacts``."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from played_batches import BATCH, again_of, batch_session, batches_of, job, passed, plan

from banger.batch import client
from banger.cli import main
from banger.cli.batch import watch as batch_watch
from banger.cli.session import Session


@pytest.fixture
def made(tmp_path: Path) -> Session:
    return batch_session(
        tmp_path,
        passed(0),
        job(1),
        job(2, verdict="infra_error"),
        job(3, verdict="timed_out"),
        job(4, verdict="cancelled"),
    )


@pytest.mark.parametrize(("words", "indexes"), [([], [1, 2, 3, 4]), (["--failed"], [1, 3])])
def test_retry_takes_what_did_not_pass(
    words: list[str], indexes: list[int], made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "retry", "last", "--detach", *words], made) == 0
    assert capsys.readouterr().out == f"{BATCH}: {len(indexes)} jobs run again\n"
    assert [(one["do"], again_of(one), one["keep"]) for one in batches_of(made).orders] == [
        ("retry", indexes, False)
    ]


def test_rerun_takes_one_even_if_it_passed_and_shows_what_it_prints(
    made: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched: list[Any] = []

    def watch(_farm: Any, seen: Any, outputs: Any, shown: Any) -> int:
        watched.append((seen.jobs[0].state, any(outputs), shown))
        return 1

    monkeypatch.setattr(batch_watch, "watch", watch)
    assert main(["batch", "rerun", "last", "0", "--keep"], made) == 1
    assert capsys.readouterr().err == f"{BATCH}: job 0 runs again\n"
    assert (again_of(batches_of(made).orders[0]), batches_of(made).orders[0]["keep"]) == ([0], True)
    assert watched == [("waiting", False, batch_watch.Shown(follow=0))]


def test_ctrl_c_leaves_what_runs_again_to_the_workers(
    made: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def watch(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch_watch, "watch", watch)
    assert main(["batch", "rerun", "last", "0"], made) == 130
    assert f"the batch goes on: `banger batch attach {BATCH}`" in capsys.readouterr().err


def test_there_is_nothing_to_retry_of_a_green_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = batch_session(tmp_path, passed(0), counts={"passed": 1})
    assert main(["batch", "retry", "last"], made) == 2
    assert "has no job to run again\n  1 of 1 passed; it is ended\n" in capsys.readouterr().err


def test_a_job_that_goes_on_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = job(0, state="running", verdict=None)
    assert main(["batch", "rerun", "last", "0"], batch_session(tmp_path, running, state="running")) == 2
    assert "has not ended: it is running" in capsys.readouterr().err


def test_secrets_are_read_anew_where_the_batch_was_submitted_and_nowhere_else(
    made: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = batches_of(made)
    batches.store.plans[BATCH] = plan(count=5, secrets={"TOKEN": {"env": "CI_TOKEN"}})
    monkeypatch.delenv("CI_TOKEN", raising=False)
    assert main(["batch", "rerun", "last", "1", "--detach"], made) == 2
    assert "CI_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("CI_TOKEN", "hush")
    made.settings.paths.spool.mkdir(parents=True)
    left = made.settings.paths.spool / f"{BATCH}.secrets"
    left.write_text("those of the first time")
    with left.open() as being_read:  # by another job of the batch
        umask = os.umask(0o077)
        try:
            assert main(["batch", "rerun", "last", "1", "--detach"], made) == 0
        finally:
            os.umask(umask)
        assert being_read.read() == "those of the first time"
    assert json.loads(left.read_text()) == {"TOKEN": "hush"}
    assert left.stat().st_mode & 0o777 == 0o640  # the worker is of the group
    assert [*left.parent.iterdir()] == [left]
    assert "hush" not in json.dumps([*batches.orders])
    batches.store.known = [batches.store.known[0].model_copy(update={"host": "far"})]
    assert main(["batch", "rerun", "last", "2", "--detach"], made) == 2
    assert "Run this command on far." in capsys.readouterr().err


def test_an_order_that_nobody_takes_is_told(
    made: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batches_of(made).obeyed = lambda _order: None
    monkeypatch.setattr(client, "_ACCEPTED_S", 0.0)
    assert main(["batch", "rerun", "last", "1", "--detach"], made) == 3
    assert "no worker has taken the order yet" in capsys.readouterr().err


def tar_of(**members: bytes | str) -> bytes:
    """Return a tar of files, and of links where a name's value is text."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


@pytest.fixture
def with_artifacts(tmp_path: Path) -> Session:
    left = {"files": {"artifacts": 1}}
    made = batch_session(
        tmp_path, passed(0, **left), job(1, **left), job(2), of=plan(count=3, artifacts=("**",))
    )
    files = batches_of(made).host.files
    files[0, 1, "artifacts.tar"] = tar_of(report=b"fine", out="/etc")
    files[1, 1, "artifacts.tar"] = tar_of(report=b"bad")
    files[1, 1, "output.log"] = b""
    return made


def test_artifacts_land_below_a_directory_a_job_and_what_leads_out_is_told(
    with_artifacts: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out"
    assert main(["batch", "artifacts", "last", "--to", str(to)], with_artifacts) == 0
    captured = capsys.readouterr()
    assert captured.out == f"job 0: {to}/job-000\njob 1: {to}/job-001\n"
    assert "job 0: artifacts: left out as a link that leads out" in captured.err
    assert sorted(str(path.relative_to(to)) for path in to.rglob("*") if path.is_file()) == [
        "job-000/report",
        "job-001/report",
    ]
    assert not (to / "job-000" / "out").is_symlink()


def test_artifacts_that_are_not_there_any_more_end_with_1(
    with_artifacts: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del batches_of(with_artifacts).host.files[0, 1, "artifacts.tar"]
    words = ["batch", "artifacts", "last", "0", "--to", str(tmp_path / "out"), "--json"]
    assert main(words, with_artifacts) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["directories"] == {}
    assert "host here has it no more" in told["problems"][0]


def test_a_plan_without_artifacts_is_told(
    made: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "artifacts", "last", "--to", str(tmp_path / "out")], made) == 2
    assert "names no artifacts" in capsys.readouterr().err
