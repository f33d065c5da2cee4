"""Copying to and from a guest, with a real sshd and the system's tar at the other end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from netns import private_network
from pyroute2 import IPRoute
from stand_in import ADDRESS, SSHD, VM, StandIn

from banger.contracts.errors import ConflictError, NotFoundError
from banger.contracts.names import HostPaths
from banger.guest_copy import SshArgv, copy_from_guest, copy_to_guest
from banger.ssh import ssh_argv

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SSHD.exists(), reason="needs /usr/sbin/sshd (Debian's openssh-server)"),
]

DEADLINE_S = 20.0


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshArgv]:
    paths = HostPaths(tmp_path / "state", tmp_path / "run")
    with private_network():
        with IPRoute() as ip:
            ip.link("set", index=1, state="up")
        guest = StandIn(paths, tmp_path)
        guest.start()
        guest.wait_for_port()
        yield partial(ssh_argv, paths, VM, ADDRESS)
        guest.stop()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A place of this machine."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A place of the guest, with a name that a careless shell would break."""
    (tmp_path / "over there; it's").mkdir()
    return tmp_path / "over there; it's"


def test_a_file_goes_and_comes_back_as_it_was(ssh: SshArgv, here: Path, there: Path) -> None:
    blob = os.urandom(300_000)
    (here / "blob").write_bytes(blob)
    (here / "blob").chmod(0o750)
    copy_to_guest(ssh, here / "blob", f"{there}/renamed", deadline_s=DEADLINE_S)
    copy_to_guest(ssh, here / "blob", str(there), deadline_s=DEADLINE_S)
    assert (there / "renamed").read_bytes() == (there / "blob").read_bytes() == blob
    assert (there / "blob").stat().st_mode & 0o777 == 0o750
    assert copy_from_guest(ssh, f"{there}/blob", here / "back", deadline_s=DEADLINE_S) == ()
    assert (here / "back").read_bytes() == blob


def test_a_tree_goes_and_comes_back(ssh: SshArgv, here: Path, there: Path) -> None:
    (here / "tree/deep").mkdir(parents=True)
    (here / "tree/deep/é\n").write_text("x")
    (here / "tree/link").symlink_to("deep")
    (there / "taken").mkdir()
    copy_to_guest(ssh, here / "tree", f"{there}/taken/", deadline_s=DEADLINE_S)
    assert (there / "taken/tree/link").readlink() == Path("deep")
    copy_from_guest(ssh, f"{there}/taken/tree/", here / "back", deadline_s=DEADLINE_S)
    assert (here / "back/link/é\n").read_text() == "x"


def test_what_arrives_belongs_to_the_guests_root(ssh: SshArgv, here: Path, there: Path) -> None:
    (here / "mine").write_text("x")
    os.chown(here / "mine", 12345, 12345)
    copy_to_guest(ssh, here / "mine", str(there), deadline_s=DEADLINE_S)
    assert ((there / "mine").stat().st_uid, (there / "mine").stat().st_gid) == (0, 0)


def test_a_link_that_is_asked_for_is_followed_and_keeps_its_name(
    ssh: SshArgv, here: Path, there: Path
) -> None:
    (there / "real").write_text("content")
    (there / "alias").symlink_to(there / "real")
    copy_from_guest(ssh, f"{there}/alias", here, deadline_s=DEADLINE_S)
    assert not (here / "alias").is_symlink()
    assert (here / "alias").read_text() == "content"


def test_a_link_out_of_the_tree_is_left_out_and_named(ssh: SshArgv, here: Path, there: Path) -> None:
    (there / "tree").mkdir()
    (there / "tree/passwd").symlink_to("/etc/passwd")
    assert copy_from_guest(ssh, f"{there}/tree", here, deadline_s=DEADLINE_S) == ("tree/passwd",)
    assert list((here / "tree").iterdir()) == []


def test_a_file_is_replaced_and_a_directory_is_not(ssh: SshArgv, here: Path, there: Path) -> None:
    (there / "new").write_text("new")
    (here / "old").write_text("old")
    (here / "full/new").mkdir(parents=True)
    copy_from_guest(ssh, f"{there}/new", here / "old", deadline_s=DEADLINE_S)
    assert (here / "old").read_text() == "new"
    with pytest.raises(ConflictError):
        copy_from_guest(ssh, f"{there}/new", here / "full", deadline_s=DEADLINE_S)


def test_what_is_not_there_is_said_and_leaves_nothing(ssh: SshArgv, here: Path, there: Path) -> None:
    with pytest.raises(NotFoundError):
        copy_from_guest(ssh, f"{there}/absent", here, deadline_s=DEADLINE_S)
    with pytest.raises(NotFoundError):
        copy_from_guest(ssh, "/", here, deadline_s=DEADLINE_S)
    with pytest.raises(NotFoundError):
        copy_to_guest(ssh, here / "absent", str(there), deadline_s=DEADLINE_S)
    (here / "file").write_text("x")
    with pytest.raises(NotFoundError):
        copy_to_guest(ssh, here / "file", f"{there}/absent/", deadline_s=DEADLINE_S)
    assert [path.name for path in here.iterdir()] == ["file"]
