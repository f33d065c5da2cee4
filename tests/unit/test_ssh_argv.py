"""The ssh command line: verified, alone with its own key, and the guest's words kept apart."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banger import ssh
from banger.contracts.errors import GuestUnreachableError
from banger.contracts.names import HostPaths

VM = "0123456789ab"
PATHS = HostPaths(Path("/state"), Path("/run"))


@pytest.fixture(autouse=True)
def installed_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "find_tool", lambda name: f"/usr/bin/{name}")


def options_of(argv: tuple[str, ...]) -> dict[str, str]:
    named = (argv[i + 1] for i, word in enumerate(argv) if word == "-o")
    return dict(pair.split("=", 1) for pair in named)


def test_the_guests_own_key_is_demanded_under_its_id() -> None:
    options = options_of(ssh.ssh_argv(PATHS, VM, "172.16.0.2", ("true",)))
    assert options["StrictHostKeyChecking"] == "yes"
    assert options["HostKeyAlias"] == f"banger-{VM}"
    assert options["UserKnownHostsFile"] == f"/state/vms/{VM}/known_hosts"
    assert options["GlobalKnownHostsFile"] == "/dev/null"


def test_only_the_farms_key_is_offered_and_nothing_is_asked_or_forwarded() -> None:
    argv = ssh.ssh_argv(PATHS, VM, "172.16.0.2", ("true",))
    options = options_of(argv)
    assert argv[1:3] == ("-F", "none")
    assert options["IdentityFile"] == "/state/keys/id_ed25519"
    assert (options["IdentitiesOnly"], options["IdentityAgent"]) == ("yes", "none")
    assert (options["BatchMode"], options["ForwardAgent"], options["ForwardX11"]) == ("yes", "no", "no")


def test_a_home_with_a_blank_or_a_percent_sign_is_one_path() -> None:
    home = HostPaths(Path("/home/a b%c"), Path("/run"))
    options = options_of(ssh.ssh_argv(home, VM, "172.16.0.2"))
    assert options["IdentityFile"] == '"/home/a b%%c/keys/id_ed25519"'


def test_without_a_command_it_is_a_login_shell() -> None:
    argv = ssh.ssh_argv(PATHS, VM, "172.16.0.2", tty=True)
    assert argv[-2:] == ("--", "root@172.16.0.2")
    assert "-tt" in argv


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_a_shell_takes_the_guest_command_apart_into_the_same_words(words: list[str]) -> None:
    command, _, ending = ssh.guest_command(words).rpartition("; ")
    assert ending == "exit $?"
    assert shlex.split(command) == words


ANSWERED = "debug1: client_input_channel_req: channel 0 rtype exit-status reply 0\n"
LOST = "debug1: Sending command: true\nTimeout, server 172.16.0.2 not responding.\n"


def session(tmp_path: Path, log: str) -> ssh.GuestSession:
    file = tmp_path / "ssh.log"
    file.write_text(log)
    return ssh.GuestSession((), file)


@pytest.mark.parametrize("log", [ANSWERED, ANSWERED.replace("status", "signal")])
def test_a_guests_own_255_is_its_exit_code(tmp_path: Path, log: str) -> None:
    assert session(tmp_path, log).exit_code(255) == 255


def test_a_guest_that_knows_another_owner_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GuestUnreachableError) as caught:
        session(tmp_path, "root@172.16.0.3: Permission denied (publickey).\n").exit_code(255)
    assert "with sudo" in caught.value.resolution


@pytest.mark.parametrize("code", [255, -15])
def test_a_lost_connection_is_told_in_sshs_words(tmp_path: Path, code: int) -> None:
    with pytest.raises(GuestUnreachableError) as caught:
        session(tmp_path, LOST).exit_code(code)
    assert caught.value.details == "Timeout, server 172.16.0.2 not responding."
