"""``banger redis``: what an operator tells a Redis of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from banger.cli import main
from banger.cli.session import Session
from banger.contracts.broker import ROLES
from banger.embedded.credentials import Credentials

PASSWORDS = {role: f"f3c1a9e07b5d4826-{role}" for role in ROLES if role != "admin"}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("BANGER_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("BANGER_REDIS_URL", "rediss://redis.example:6379/0")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    farm = Credentials(
        host="h1",
        redis_url="rediss://redis.example:6379/0",
        redis_passwords=PASSWORDS,
        redis_port=7379,
        flower_url="http://127.0.0.1:5555",
        flower_user="banger",
        flower_password="f3c1a9e07b5d4826-ui",
        flower_port=5555,
    )
    (tmp_path / "farm.json").write_text(farm.model_dump_json())
    return Session()


def test_the_orders_name_every_user_of_this_host_and_no_password(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["redis", "acl"], session) == 0
    said = capsys.readouterr().out
    users = ["cli", "worker-h1", "root-h1", "flower", "metrics"]
    assert [line.split()[:3] for line in said.splitlines()] == [["ACL", "SETUSER", user] for user in users]
    assert not any(password in said for password in PASSWORDS.values())
    assert "default" not in said, "the operator's own way in"


def test_in_json_each_right_has_its_reason(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redis", "acl", "--json"], session) == 0
    cli, *_ = json.loads(capsys.readouterr().out)
    assert (cli["role"], cli["user"]) == ("cli", "cli")
    asks = next(right for right in cli["rights"] if "lpush" in right["commands"])
    assert asks["writes"] == ["banger.control", "banger.work.*"]
    assert "root's queues" in asks["reason"]


def test_a_roles_url_is_told_to_who_asks(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redis", "url", "worker"], session) == 0
    said = capsys.readouterr().out.strip()
    assert said == f"rediss://worker-h1:{PASSWORDS['worker']}@redis.example:6379/0"
    assert main(["redis", "url", "admin"], session) != 0
    assert "there is no role 'admin'" in capsys.readouterr().err


def test_a_question_about_no_role_makes_no_passwords(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "farm.json").unlink()
    assert main(["redis", "url", "boss"], session) == 2
    assert "Roles: cli, worker, root, flower, metrics." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_damaged_passwords_are_named_with_the_way_out(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "farm.json").write_text("{")
    assert main(["redis", "acl"], session) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/farm.json is damaged" in said
    assert "Remove it" in said


def test_only_root_is_told(
    session: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["redis", "acl"], session) != 0
    assert "sudo" in capsys.readouterr().err
