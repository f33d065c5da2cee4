"""The farm's owner, an ordinary user: a VM's life without sudo, and nothing beyond it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from farm_box import Box, eventually, farm_box, without_flower
from netns import inside
from person import Person, owning, person

from banger.contracts.names import link_alias

pytestmark = pytest.mark.real

SYNCED = (
    {"host": "~/.netrc", "guest": "/root/.netrc"},
    {"host": "~/tools", "guest": "/root/bin/", "mode": "0700"},
)


class Owned(NamedTuple):
    """A farm, and the user who owns it."""

    box: Box
    owner: Person

    def id(self, name: str = "dev") -> str:
        return str(json.loads(self.owner.banger("vm", "show", name, "--json").stdout)["id"])

    def guest(self, *argv: str, good: int = 0) -> str:
        return str(self.owner.banger("vm", "exec", "dev", "--", *argv, good=good).stdout.decode())


@pytest.fixture(scope="module")
def owned() -> Iterator[Owned]:
    with person("nobody") as owner, owning(owner), farm_box("micro", change=without_flower) as box:
        owner.configure(box.settings, SYNCED)
        owner.write(".netrc", b"machine example.org password s3cret\n", 0o600)
        owner.write("dotfiles/hello", b"#!/bin/sh\necho hello\n", 0o755)
        owner.write("tools/blob", bytes(range(256)) * 4)
        (owner.home / "tools" / "hello").symlink_to("../dotfiles/hello")
        with inside(box.network):
            owner.banger("vm", "create", "dev", "--disk", "64MiB")
            yield Owned(box, owner)


def test_the_owner_reaches_a_guest_with_a_key_and_known_hosts_of_their_own(owned):
    assert owned.guest("sh", "-c", "echo here; exit 7", good=7) == "here\n"
    keys = owned.owner.own / "ssh"
    assert (keys / "known_hosts").read_text().startswith(f"{link_alias(owned.id())} ssh-ed25519 ")
    admitted = owned.guest("cat", "/root/.ssh/authorized_keys").splitlines()
    assert [line.split()[2] for line in admitted] == ["banger", "nobody"]
    public = (keys / "id_ed25519.pub").read_text().split()[1]
    assert admitted[1].split()[1] == public
    assert owned.owner.banger("vm", "ssh", "dev", stdin=b"echo $((6 * 7)); exit\n").stdout.count(b"42") == 1


def test_another_hosts_key_at_the_guests_address_is_refused(owned):
    known_hosts = owned.box.paths.known_hosts(owned.id())
    right = known_hosts.read_text()
    wrong = owned.box.paths.identity.with_suffix(".pub").read_text()
    known_hosts.write_text(f"{right.split()[0]} {wrong}")
    try:
        refused = owned.owner.banger("vm", "exec", "dev", "--", "true", good=125)
        assert b"Host key verification failed" in refused.stderr
    finally:
        known_hosts.write_text(right)
    assert owned.guest("true") == ""


def test_files_go_and_come_and_the_console_can_be_read(owned):
    owned.owner.write("up", b"up\n")
    owned.owner.banger("vm", "cp", str(owned.owner.home / "up"), "dev:/root/up")
    owned.owner.banger("vm", "cp", "dev:/root/up", str(owned.owner.home / "down"))
    assert (owned.owner.home / "down").read_bytes() == b"up\n"
    assert len(owned.owner.banger("vm", "logs", "dev").stdout) > 100


def test_synced_files_are_there_with_their_modes_and_are_the_guests_roots(owned):
    assert "s3cret" in owned.guest("cat", "/root/.netrc")
    listed = owned.guest("stat", "-c", "%a %u:%g %F %n", "/root/.netrc", "/root/bin/hello", "/root/bin/blob")
    assert [line.split(" /")[0] for line in listed.splitlines()] == [
        "600 0:0 regular file",
        "700 0:0 regular file",
        "700 0:0 regular file",
    ]
    assert owned.guest("/root/bin/hello") == "hello\n"
    assert owned.guest("wc", "-c", "/root/bin/blob").split()[0] == "1024"
    assert ".banger-sync" not in owned.guest("ls", "-a", "/root")


def test_syncing_is_a_stage_and_redis_never_held_a_byte_of_it(owned):
    shown = owned.owner.banger("vm", "show", "dev", "--timeline").stdout.decode()
    assert next(line for line in shown.splitlines() if line.split()[:1] == ["file_sync"]).endswith("ok")
    everything = b"".join(path.read_bytes() for path in (owned.box.paths.state / "redis").rglob("*.aof"))
    assert b"file_sync" in everything
    assert b"s3cret" not in everything


def test_what_was_left_for_a_job_goes_with_it(owned):
    assert owned.box.paths.spool.stat().st_uid == owned.owner.account.pw_uid
    eventually(lambda: not list(owned.box.paths.spool.iterdir()))


def test_the_owner_is_told_how_the_farm_is_and_what_needs_root(owned):
    owned.owner.banger("farm", "status")
    checks = json.loads(owned.owner.banger("doctor", "--json", good=None).stdout)
    found = {check["name"]: check["status"] for check in checks}
    assert (found["owner"], found["Redis"], found["queues"]) == ("ok", "ok", "ok")
    for words in (("farm", "down"), ("farm", "up"), ("image", "build", "micro"), ("farm", "logs")):
        assert b"sudo" in owned.owner.banger(*words, good=None).stderr
    assert owned.guest("true") == ""


def test_a_changed_file_arrives_with_the_next_start(owned):
    owned.owner.banger("vm", "stop", "dev")
    owned.owner.write(".netrc", b"changed\n", 0o600)
    owned.owner.banger("vm", "start", "dev")
    assert owned.guest("cat", "/root/.netrc") == "changed\n"


def test_a_file_in_the_way_fails_the_start_and_names_it_and_leaves_nothing_half(owned):
    owned.guest("sh", "-c", "rm /root/.netrc; mkdir /root/.netrc; echo kept > /root/bin/blob")
    failed = owned.owner.banger("vm", "restart", "dev", good=1)
    assert b"/root/.netrc is a directory of the guest" in failed.stderr
    owned.owner.configure(owned.box.settings)
    owned.owner.banger("vm", "start", "dev")
    assert owned.guest("cat", "/root/bin/blob") == "kept\n"
    assert ".banger-sync" not in owned.guest("ls", "-a", "/root")
    owned.guest("rmdir", "/root/.netrc")


def test_a_full_disk_keeps_the_old_file_whole(owned):
    owned.guest(
        "sh", "-c", "echo old > /root/.netrc; dd if=/dev/zero of=/root/fill bs=1M; sync; test -s /root/fill"
    )
    owned.owner.write(".netrc", bytes(1024 * 1024), 0o600)
    owned.owner.configure(owned.box.settings, SYNCED)
    failed = owned.owner.banger("vm", "restart", "dev", good=1)
    assert b"No space left on device" in failed.stderr
    owned.owner.configure(owned.box.settings)
    owned.owner.banger("vm", "start", "dev")
    assert owned.guest("cat", "/root/.netrc") == "old\n"
    owned.guest("rm", "/root/fill")
    owned.owner.write(".netrc", b"changed\n", 0o600)


def test_a_run_has_the_files_before_its_command(owned):
    owned.owner.configure(owned.box.settings, SYNCED)
    said = owned.owner.banger("run", "--", "cat", "/root/.netrc").stdout
    assert said == b"changed\n"


def test_the_owner_reads_no_secret_of_the_farm(owned):
    state, vm = owned.box.paths.state, owned.box.paths.vm(owned.id())
    for path in (
        state / "farm.json",
        state / "redis.conf",
        state / "redis.acl",
        owned.box.paths.identity,
        owned.box.paths.ticket_key,
        vm / "ssh_host_ed25519_key",
        owned.box.paths.work_disk(owned.id()),
    ):
        assert path.exists(), path
        assert b"Permission denied" in owned.owner.does("/bin/cat", str(path), good=1).stderr
    assert owned.owner.does("/bin/ls", str(owned.box.paths.registry), good=2).returncode == 2


def test_a_stranger_is_told_who_may(owned):
    with person("games") as stranger:
        stranger.configure(owned.box.settings)
        refused = stranger.banger("vm", "list", good=3).stderr.decode()
        assert "this user does not own the farm" in refused
        log = owned.box.paths.serial_log(owned.id())
        assert b"Permission denied" in stranger.does("/bin/cat", str(log), good=1).stderr
        assert b"Permission denied" in stranger.does("/bin/ls", str(owned.box.paths.spool), good=2).stderr


def test_a_deleted_vm_is_forgotten(owned):
    gone = owned.id()
    owned.owner.banger("vm", "delete", "dev")
    assert link_alias(gone) not in (owned.owner.own / "ssh" / "known_hosts").read_text()
    assert not list(Path(owned.box.paths.vms).glob("[!.]*"))
