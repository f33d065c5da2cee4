"""Who owns a farm, what the owner is given, and which guests the owner's ssh knows."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from farm_facts import VM

from banger import keyring, settings
from banger.contracts.errors import InvalidInputError, UnavailableError
from banger.contracts.names import HostPaths
from banger.doctor.ownership import ask_owner
from banger.embedded import owner
from banger.embedded.credentials import Credentials
from banger.keyring import OwnerKeys, keys_of_this_user
from banger.settings import Settings

OTHER = "ba9876543210"
USERS = {"root": 0, "alice": 1000, "banger": 999, "guest": 300_007}


@pytest.fixture(autouse=True)
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(name: str) -> pwd.struct_passwd:
        uid = USERS[name]
        return pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", "/bin/sh"))

    monkeypatch.setattr(owner.pwd, "getpwnam", named)
    monkeypatch.delenv("SUDO_USER", raising=False)


@pytest.mark.parametrize(
    ("configured", "behind_sudo", "found"),
    [
        (None, None, None),
        (None, "alice", "alice"),
        (None, "root", None),
        ("alice", "root", "alice"),
        ("root", "alice", None),
    ],
)
def test_the_owner_is_who_is_configured_or_else_who_is_behind_sudo(
    configured: str | None, behind_sudo: str | None, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if behind_sudo:
        monkeypatch.setenv("SUDO_USER", behind_sudo)
    account = owner.owner_of(Settings(owner=configured))
    assert (account and account.pw_name) == found


@pytest.mark.parametrize("name", ["nosuchuser", "banger", "guest"])
def test_who_runs_the_workers_or_a_vm_cannot_own_the_farm(name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        owner.owner_of(Settings(owner=name))


def test_the_owner_is_given_no_other_roles_password() -> None:
    passwords = {role: f"s3cret-{role}" for role in ("cli", "worker", "root", "flower", "metrics", "admin")}
    credentials = Credentials.model_validate(
        {
            "host": "here",
            "redis_url": "redis://127.0.0.1:7379/0",
            "redis_passwords": passwords,
            "redis_port": 7379,
            "flower_url": "http://127.0.0.1:5555",
            "flower_user": "banger",
            "flower_password": "for-flower",
            "flower_port": 5555,
        }
    )
    shown = owner.owners_view(credentials)
    assert [role for role in passwords if f"s3cret-{role}" in shown] == ["cli"]
    assert json.loads(shown)["flower_password"] == "for-flower"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ordinary user's home, for a process that is that user's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("BANGER_REDIS_URL", raising=False)
    (tmp_path / ".config/banger/ssh").mkdir(parents=True)
    return tmp_path


def test_redis_is_found_in_the_users_own_file_and_root_uses_the_farms(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Settings(state_dir=home / "state", run_dir=home / "run")
    (home / "state").mkdir()

    def written(password: str) -> str:
        return json.dumps({"redis_url": "redis://127.0.0.1:1/0", "redis_passwords": {"cli": password}})

    settings.own_farm_file().write_text(written("own"))
    mine.farm_file.write_text(written("farms"))
    assert mine.redis() == "redis://cli:own@127.0.0.1:1/0"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert mine.redis() == "redis://cli:farms@127.0.0.1:1/0"
    mine.farm_file.write_text('{"redis_url": "x"}')
    with pytest.raises(UnavailableError, match="started by an older banger"):
        mine.redis()


def _known(paths: HostPaths, vm_id: str, key: str) -> str:
    paths.vm(vm_id).mkdir(parents=True, exist_ok=True)
    line = f"banger-{vm_id} ssh-ed25519 {key}\n"
    paths.known_hosts(vm_id).write_text(line)
    return line


def test_a_guest_is_known_under_its_id_and_forgotten_with_its_vm(home: Path) -> None:
    paths = HostPaths(home / "state", home / "run")
    (home / ".config/banger/ssh/id_ed25519").touch()
    first, second = _known(paths, VM, "AAAA"), _known(paths, OTHER, "BBBB")
    keys = keys_of_this_user(paths)
    assert isinstance(keys, OwnerKeys)
    assert keys.known_hosts(VM).read_text() == first
    assert keys.known_hosts(OTHER).read_text() == first + second
    changed = _known(paths, OTHER, "CCCC")
    assert keys.known_hosts(VM).read_text() == first + changed
    paths.known_hosts(VM).unlink()
    keyring.forget_gone(paths)
    assert (keys.directory / "known_hosts").read_text() == changed


@pytest.mark.parametrize(
    "said",
    [
        "* ssh-ed25519 AAAA\n",
        "banger-{vm},* ssh-ed25519 AAAA\n",
        "banger-{vm} ssh-ed25519 AAAA\n* ssh-ed25519 BB\n",
    ],
)
def test_a_host_that_vouches_for_more_than_the_vm_is_not_believed(said: str, home: Path) -> None:
    paths = HostPaths(home / "state", home / "run")
    (home / ".config/banger/ssh/id_ed25519").touch()
    _known(paths, VM, "AAAA")
    paths.known_hosts(VM).write_text(said.format(vm=VM))
    assert keys_of_this_user(paths).known_hosts(VM).parent.joinpath("known_hosts.lock").exists()
    assert not (home / ".config/banger/ssh/known_hosts").exists()


def test_root_enters_guests_with_the_farms_key_and_a_stranger_with_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = HostPaths(home / "state", home / "run")
    (home / ".config/banger/ssh").rmdir()
    with pytest.raises(UnavailableError, match="no key to the farm's guests"):
        keys_of_this_user(paths).known_hosts(VM)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert keys_of_this_user(paths) is paths


def test_the_doctor_finds_what_the_owner_lacks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = HostPaths(home / "state", home / "run")
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: pwd.struct_passwd(("alice", "", 0, 0, "", "", "")))
    monkeypatch.setitem(USERS, "alice", os.getuid())
    assert ask_owner(paths) == ("", "alice", ())
    paths.state.mkdir()
    paths.owner_key.write_text("ssh-ed25519 AAAA alice\n")
    own = home / ".config/banger"
    for name in ("farm.json", "ssh/id_ed25519"):
        (own / name).touch(0o600)
    paths.spool.mkdir(parents=True)
    assert ask_owner(paths) == ("alice", "alice", ())
    (own / "farm.json").chmod(0o640)
    (own / "ssh/id_ed25519").unlink()
    (own / "ssh/id_ed25519.pub").write_text("ssh-ed25519 BBBB alice\n")
    paths.spool.rmdir()
    mode, missing, other, spool = ask_owner(paths).problems
    assert "farm.json has mode 0640" in mode
    assert missing.endswith("No such file or directory")
    assert "is not the key that guests admit" in other
    assert spool.endswith("is not alice's")
