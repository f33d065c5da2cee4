"""The farm's verbs as they are typed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_farm import session

from banger.cli import main
from banger.embedded import control
from banger.embedded.plan import FarmStatus, ServiceStatus

RUNNING = FarmStatus(
    pid=7,
    services=(
        ServiceStatus(
            name="redis",
            state="running",
            pid=8,
            since=datetime.now(UTC),
            restarts=1,
            user="banger",
            serves="redis://127.0.0.1:7379",
        ),
    ),
)


def _has_status(monkeypatch: pytest.MonkeyPatch, status: FarmStatus) -> None:
    monkeypatch.setattr(control, "status", lambda _settings: status)


def test_status_shows_each_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _has_status(monkeypatch, RUNNING)
    assert main(["farm", "status"], session(tmp_path)) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:3] == ["redis", "running", "8"]
    assert row[4:] == ["1", "banger", "redis://127.0.0.1:7379"]
    assert main(["farm", "status", "--json"], session(tmp_path)) == 0
    assert json.loads(capsys.readouterr().out)["ready"] is True


def test_status_of_no_farm_says_so_and_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _has_status(monkeypatch, FarmStatus())
    assert main(["farm", "status"], session(tmp_path)) == 3
    assert "not running" in capsys.readouterr().out


def test_down_says_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "down", lambda _settings: True)
    assert main(["farm", "down"], session(tmp_path)) == 0
    assert capsys.readouterr().out == "The farm is stopped; its VMs go on.\n"


def test_a_farm_that_never_ran_has_no_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["farm", "logs"], session(tmp_path)) == 2
    assert "no logs yet" in capsys.readouterr().err


def test_logs_name_their_service_and_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = session(tmp_path)
    logs = made.settings.state_dir / "logs"
    logs.mkdir(parents=True)
    (logs / "worker.log").write_text("ready\x1b[2J\n")
    assert main(["farm", "logs"], made) == 0
    assert capsys.readouterr().out == "worker       ready?[2J\n"
    assert main(["farm", "logs", "nginx"], made) == 2
