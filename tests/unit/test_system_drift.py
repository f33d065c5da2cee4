"""What has become of an installation: each difference is named, and what is as it was made is not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from banger import __version__
from banger.contracts.errors import BangerError, NotFoundError
from banger.settings import Settings
from banger.system import manifest, systemd
from banger.system.drift import Drift, Found, drifts, look, loosened
from banger.system.manifest import MadeDirectory, MadeFile, MadeUser, Manifest
from banger.system.systemd import UnitState, parse

UNIT = Path("/etc/systemd/system/banger-worker.service")
STATE = Path("/var/lib/banger")
MADE = Manifest(
    version=__version__,
    installed_at=datetime.now(UTC),
    owner=None,
    uid=None,
    gid=None,
    redis_url=None,
    services=("banger-worker.service",),
    users=(MadeUser(name="banger", made=True),),
    directories=(MadeDirectory(path=STATE, owner="root", mode=0o711, made=True),),
    files=(MadeFile(path=UNIT, owner="root", group="root", mode=0o644, sha256="aa", made=True),),
)
RIGHT = {
    STATE: Found("directory", "root", "root", 0o711, None),
    UNIT: Found("file", "root", "root", 0o644, "aa"),
}
RUNS = UnitState(
    name="banger-worker.service",
    load="loaded",
    active="active",
    sub="running",
    pid=7,
    restarts=0,
    since="today",
    stale=False,
    drop_ins=(),
)


def test_what_is_as_it_was_made_has_not_drifted() -> None:
    assert drifts(MADE, RIGHT, (RUNS,), ()) == ()


@pytest.mark.parametrize(
    ("path", "found", "how"),
    [
        (UNIT, None, "is gone"),
        (UNIT, Found("file", "root", "root", 0o644, "bb"), "was changed"),
        (UNIT, Found("file", "root", "root", 0o664, "aa"), "has mode 0664, not 0644"),
        (UNIT, Found("file", "anna", "root", 0o644, "aa"), "belongs to anna, not to root"),
        (UNIT, Found("file", "root", "anna", 0o644, "aa"), "has the group anna, not root"),
        (UNIT, Found("symbolic link", "root", "root", 0o777, None), "is a symbolic link, not a file"),
        (STATE, Found("directory", "root", "root", 0o777, None), "has mode 0777, not 0711"),
    ],
)
def test_each_difference_of_a_path_is_named(path: Path, found: Found | None, how: str) -> None:
    assert drifts(MADE, RIGHT | {path: found}, (RUNS,), ()) == (Drift(str(path), how),)


def test_what_a_user_may_not_see_is_not_said_to_have_drifted() -> None:
    assert drifts(MADE, {}, (RUNS,), ()) == ()


def test_units_users_and_the_version_drift_too() -> None:
    dead = RUNS.model_copy(update={"active": "failed", "sub": "failed", "stale": True})
    gone = RUNS.model_copy(update={"load": "not-found"})
    old = MADE.model_copy(update={"version": "0.0.9"})
    found = [f"{what} {how}" for what, how in drifts(old, RIGHT, (dead, gone), ("banger",))]
    assert found == [
        "user banger does not exist",
        "banger-worker.service does not run: failed (failed)",
        "banger-worker.service was changed since systemd read it",
        "banger-worker.service is not-found in systemd",
        f"version 0.0.9 was installed, this is {__version__}",
    ]


def test_an_administrators_change_is_told_but_is_no_drift() -> None:
    changed = RUNS.model_copy(update={"drop_ins": ("/etc/systemd/system/banger-worker.service.d/x.conf",)})
    assert drifts(MADE, RIGHT, (changed,), ()) == ()
    (told,) = loosened((RUNS, changed))
    assert told.how.endswith("x.conf")


def test_looking_tells_files_directories_and_links_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    paths = {name: tmp_path / name for name in ("file", "link", "gone")}
    files = tuple(
        MadeFile(path=path, owner="root", group="root", mode=0o644, sha256=None, made=True)
        for path in paths.values()
    )
    seen = look(MADE.model_copy(update={"directories": (), "files": files}))
    assert {name: found.kind if (found := seen[path]) else None for name, path in paths.items()} == {
        "file": "file",
        "link": "symbolic link",
        "gone": None,
    }


def test_what_systemctl_says_is_read_block_by_block() -> None:
    text = (
        "Id=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\nMainPID=5\nNRestarts=1\n"
        "ActiveEnterTimestamp=Tue\nNeedDaemonReload=no\nDropInPaths=/x /y\n\n"
        "Id=b.service\nLoadState=not-found\nActiveState=inactive\nMainPID=0\nNeedDaemonReload=yes\n"
    )
    first, second = parse(text)
    assert (first.name, first.pid, first.drop_ins, first.running) == ("a.service", 5, ("/x", "/y"), True)
    assert (second.load, second.stale, second.running) == ("not-found", True, False)


def test_without_systemd_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "none")
    with pytest.raises(BangerError, match="systemd does not run here") as caught:
        systemd.require()
    assert "farm up" in caught.value.resolution


def test_a_manifest_that_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    settings = Settings(host="h1", state_dir=tmp_path)
    assert manifest.load(settings) is None
    with pytest.raises(NotFoundError):
        manifest.installed(settings)
    (tmp_path / "install.json").write_text("{}")
    with pytest.raises(BangerError, match="damaged"):
        manifest.load(settings)
