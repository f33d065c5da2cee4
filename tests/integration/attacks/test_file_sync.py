"""Homes and spools that try to be read from, or written to, where they should not be.

Each test first does what a careless program would do, and shows what that gives away.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from person import Person, owning, person

from banger import home_files
from banger.contracts.broker import ROLES
from banger.contracts.errors import BangerError, StageFailedError
from banger.contracts.file_sync import MAX_FILE_BYTES, MAX_WIRE_BYTES, Bundle, SyncEntry
from banger.contracts.names import HostPaths
from banger.contracts.requests import FileSyncRequest
from banger.embedded import owner
from banger.embedded.credentials import Credentials
from banger.embedded.layout import make_directory
from banger.file_sync import bundle_of
from banger.home_files import HomeError, read_home
from banger.settings import Settings
from workers.host import StageContext, WorkHost
from workers.stages import file_sync

pytestmark = pytest.mark.integration

VM, JOB = "0123456789ab", "ba9876543210"
SECRET = b"another's secret"
LIMIT = 1000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home, beside a secret that is not in it."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(SECRET)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def refused(home: Path, path: str) -> str:
    with pytest.raises(HomeError) as error:
        list(read_home(home, path, LIMIT))
    return str(error.value)


@pytest.mark.parametrize(
    "target", ["../secret", "{base}/secret", "a/../../secret", "{home}/../secret", "up/secret"]
)
def test_a_link_out_of_the_home(home: Path, target: str) -> None:
    (home / "a").mkdir()
    (home / "up").symlink_to("..")
    (home / "link").symlink_to(target.format(base=home.parent, home=home))
    assert (home / "link").read_bytes() == SECRET
    assert "leaves the home" in refused(home, "~/link")


def test_a_directory_that_is_a_link_out_of_the_home(home: Path) -> None:
    (home / "d").symlink_to(home.parent)
    assert (home / "d" / "secret").read_bytes() == SECRET
    assert "leaves the home" in refused(home, "~/d/secret")
    assert "leaves the home" in refused(home, "~/d")


def test_a_file_is_swapped_for_a_link_between_check_and_use(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap comes before each single system call that a reader makes, one after the other."""

    def lay_out() -> None:
        shutil.rmtree(home)
        (home / "d").mkdir(parents=True)
        (home / "d" / "file").write_bytes(b"mine")

    def swap(victim: Path, target: Path) -> None:
        victim.rename(home / "aside")
        victim.symlink_to(target)

    swaps: list[Callable[[], None]] = [
        lambda: swap(home / "d", home.parent / "outside"),
        lambda: swap(home / "d" / "file", home.parent / "secret"),
    ]
    for attack in swaps:
        lay_out()
        checked = (home / "d" / "file").resolve()
        assert checked.is_relative_to(home)
        attack()
        assert checked.read_bytes() == SECRET  # what a check of the path is worth
        before = 0
        while _reads_with_a_swap_before(home, lay_out, attack, before, monkeypatch):
            before += 1
        assert before >= 4  # there were as many calls to come in between


def _reads_with_a_swap_before(
    home: Path, lay_out: Callable[[], None], attack: Callable[[], None], call: int, patch: pytest.MonkeyPatch
) -> bool:
    """Read with the attack just before the N-th call; False when there is no such call."""
    lay_out()
    calls = 0

    def interrupted(real: Callable[..., Any]) -> Callable[..., Any]:
        def made(*given: Any, **more: Any) -> Any:
            nonlocal calls
            if calls == call:
                calls += 1
                attack()
            else:
                calls += 1
            return real(*given, **more)

        return made

    with patch.context() as patched:
        for name in ("open", "fstat", "readlink", "fdopen"):
            patched.setattr(home_files.os, name, interrupted(getattr(os, name)))
        try:
            found = [file.content for file in read_home(home, "~/d/file", LIMIT)]
        except HomeError:
            found = []
    assert found in ([], [b"mine"])
    return calls > call


def test_a_hard_link_to_anothers_file(home: Path) -> None:
    os.chown(home.parent / "secret", 65534, 65534)
    (home / "mine").hardlink_to(home.parent / "secret")
    assert (home / "mine").read_bytes() == SECRET
    assert "belongs to another user" in refused(home, "~/mine")


def test_root_reads_no_home_but_its_own(home: Path) -> None:
    (home / "x").write_bytes(SECRET)
    os.chown(home, 65534, 65534)
    assert (home / "x").read_bytes() == SECRET
    assert "not that of the user who runs banger" in refused(home, "~/x")


def test_what_is_no_file_is_not_even_opened(home: Path) -> None:
    os.mkfifo(home / "fifo")
    os.mknod(home / "zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    careless = threading.Thread(target=(home / "fifo").read_bytes, daemon=True)
    careless.start()
    careless.join(0.2)
    assert careless.is_alive()  # it waits for a writer, for ever
    (home / "fifo").write_bytes(b"")
    careless.join(5)
    with (home / "zero").open("rb") as endless:
        assert len(endless.read(10 * LIMIT)) == 10 * LIMIT
    assert "neither a file nor a directory" in refused(home, "~/fifo")
    assert "neither a file nor a directory" in refused(home, "~/zero")


def test_a_file_that_is_huge_or_grows_while_it_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "huge").touch()
    os.truncate(home / "huge", 1 << 40)
    assert (home / "huge").stat().st_size == 1 << 40
    assert "holds more than" in refused(home, "~/huge")
    (home / "grows").write_bytes(b"small")
    real = os.fdopen

    def grow(*given: Any, **more: Any) -> Any:
        with (home / "grows").open("ab") as file:
            file.write(bytes(LIMIT))
        return real(*given, **more)

    monkeypatch.setattr(home_files.os, "fdopen", grow)
    assert "holds more than" in refused(home, "~/grows")


@pytest.mark.parametrize(
    "guest", ["/root/../etc/passwd", "/root/.ssh/authorized_keys", "/etc/x", "/root/a\nb"]
)
def test_a_guest_path_that_would_leave_its_place_is_no_entry(guest: str, home: Path) -> None:
    (home / "x").write_bytes(b"x")
    made = SyncEntry.model_construct(host="~/x", guest=guest, mode=None)  # past the configuration's check
    with pytest.raises(BangerError):
        bundle_of([made], home)


# --- the spool: what whoever may write there could leave -------------------------------------------


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[StageContext]:
    paths = HostPaths(tmp_path / "state", tmp_path / "run")
    paths.keys.mkdir(parents=True)
    paths.identity.write_bytes(SECRET)
    paths.spool.mkdir(parents=True)
    return StageContext(WorkHost("here", paths, IPv4Network("172.16.0.0/24"), 300_000))


def _left(ctx: StageContext) -> Path:
    return ctx.host.paths.bundle(JOB)


def _stage_refuses(ctx: StageContext) -> str:
    request = FileSyncRequest(vm_id=VM, generation=1, address="172.16.0.2", bundle=JOB)
    with pytest.raises(StageFailedError) as error:
        file_sync.do(request, ctx)
    assert SECRET.decode() not in str(error.value)
    return str(error.value)


def test_a_bundle_that_is_another_file_by_link(spool: StageContext) -> None:
    _left(spool).symlink_to(spool.host.paths.identity)
    assert _left(spool).read_bytes() == SECRET
    assert "is not there" in _stage_refuses(spool)
    _left(spool).unlink()
    _left(spool).hardlink_to(spool.host.paths.identity)
    assert _left(spool).read_bytes() == SECRET
    assert "not a file that the owner has left" in _stage_refuses(spool)


def test_a_bundle_that_is_a_fifo_or_without_end(spool: StageContext) -> None:
    os.mkfifo(_left(spool))
    assert "not a file that the owner has left" in _stage_refuses(spool)
    _left(spool).unlink()
    _left(spool).touch()
    os.truncate(_left(spool), MAX_WIRE_BYTES + 1)
    assert "do not keep to its rules" in _stage_refuses(spool)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/root/../etc/passwd"},
        {"path": f"/etc/{SECRET.decode()}"},
        {"path": "/root/.ssh/authorized_keys"},
        {"path": "/root/.banger-sync/names"},
        {"path": "/root/a\nb"},
        {"mode": 0o4755},
        {"content": "A" * (MAX_FILE_BYTES * 4 // 3 + 8)},
        {"uid": 1},
    ],
)
def test_a_bundle_that_no_entry_could_have_made(changes: dict[str, Any], spool: StageContext) -> None:
    file = {"path": "/root/x", "mode": 0o600, "content": "YQ=="}
    assert Bundle.model_validate_json(json.dumps({"files": [file]}))
    _left(spool).write_text(json.dumps({"files": [file | changes]}))
    assert "do not keep to its rules" in _stage_refuses(spool)


# --- the owner's home: what it could do to root, which has something to put there ------------------


@pytest.fixture
def alice() -> Iterator[Person]:
    with person("nobody") as someone:
        yield someone


def _hand_over(root: Path) -> None:
    settings = Settings(host="here", state_dir=root / "state", run_dir=root / "run")
    for directory in (settings.state_dir, settings.run_dir, settings.run_dir / "farm" / "view"):
        make_directory(directory, 0, 0, 0o755)
    owner.hand_over(
        settings,
        Credentials(
            host="here",
            redis_url="redis://:nobody-listens-here@127.0.0.1:1/0",
            redis_passwords=dict.fromkeys(ROLES, "s3cret"),
            redis_port=1,
            flower_url="http://127.0.0.1:2",
            flower_user="banger",
            flower_password="s3cret",
            flower_port=2,
        ),
    )


def test_a_home_whose_directory_leads_to_roots(alice: Person, tmp_path: Path) -> None:
    victim = tmp_path / "root's own"
    victim.mkdir(mode=0o700)
    (victim / "farm.json").write_text("root's")
    (alice.home / ".config").mkdir()
    shutil.chown(alice.home / ".config", alice.account.pw_uid, alice.account.pw_gid)
    (alice.own).symlink_to(victim)
    (alice.own / "probe").write_text("written by root through a name of alice's")
    assert (victim / "probe").exists()
    with owning(alice), pytest.raises(BangerError, match="cannot be written into"):
        _hand_over(tmp_path)
    assert (victim / "farm.json").read_text() == "root's"
    assert sorted(path.name for path in victim.iterdir()) == ["farm.json", "probe"]


def test_a_farm_file_that_is_a_link_is_replaced_and_not_followed(alice: Person, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("root's")
    alice.write(".config/banger/other", b"")
    (alice.own / "farm.json").symlink_to(victim)
    (alice.own / "farm.json").write_text("followed")
    assert victim.read_text() == "followed"
    with owning(alice):
        _hand_over(tmp_path)
    assert victim.read_text() == "followed"
    written = (alice.own / "farm.json").lstat()
    assert stat.S_ISREG(written.st_mode)
    assert (written.st_uid, written.st_mode & 0o777) == (alice.account.pw_uid, 0o600)


def test_a_public_key_that_is_more_than_a_key(alice: Person, tmp_path: Path) -> None:
    with owning(alice):
        _hand_over(tmp_path)
        admitted = tmp_path / "state" / "owner.pub"
        assert len(admitted.read_text().splitlines()) == 1
        assert (admitted.stat().st_uid, admitted.stat().st_mode & 0o777) == (0, 0o644)
        forged = 'command="rm -rf /" ssh-ed25519 AAAA\nssh-ed25519 BBBB'
        alice.write(".config/banger/ssh/id_ed25519.pub", forged.encode())
        _hand_over(tmp_path)  # the public half is derived from the private one, which is no text of alice's
        assert admitted.read_text().startswith("ssh-ed25519 AAAA")
        assert "command" not in admitted.read_text()
        alice.write(".config/banger/ssh/id_ed25519", b"no key at all", 0o600)
        with pytest.raises(BangerError, match="cannot be written into"):
            _hand_over(tmp_path)
