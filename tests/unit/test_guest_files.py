"""What a guest is given, to the letter."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from banger.contracts.names import slot
from banger.contracts.policy import GUEST_PATHS, Policy, check
from banger.contracts.requests import GuestFile, PatchRootfsRequest
from banger.guest import guest_files, guest_mounts

SLOT = slot(2, IPv4Network("172.16.0.0/24"), 300_000)


@pytest.fixture
def files() -> dict[str, GuestFile]:
    return {file.path: file for file in guest_files("dev", SLOT, ("172.16.0.1", "1.1.1.1", "172.16.0.1"))}


def test_every_path_that_root_writes_is_given_and_no_other(files: dict[str, GuestFile]) -> None:
    assert set(files) == set(GUEST_PATHS)


def test_root_s_policy_allows_all_of_them() -> None:
    request = PatchRootfsRequest(
        vm_id="0123456789ab",
        generation=1,
        slot=2,
        files=guest_files("dev", SLOT, ("172.16.0.1", "1.1.1.1", "172.16.0.1")),
        mounts=guest_mounts(),
    )
    check(request, Policy(host="here", state_dir=Path("/state"), run_dir=Path("/run")))


def test_the_guest_knows_its_name_and_its_name_server(files: dict[str, GuestFile]) -> None:
    assert files["/etc/hostname"].content == "dev\n"
    assert files["/etc/hosts"].content == "127.0.0.1 localhost\n127.0.1.1 dev\n"
    assert files["/etc/resolv.conf"].content == "nameserver 172.16.0.1\nnameserver 1.1.1.1\n"


def test_the_network_follows_from_the_slot(files: dict[str, GuestFile]) -> None:
    assert files["/etc/banger/network.conf"].content == (
        "ADDRESS=172.16.0.2\nPREFIX=24\nGATEWAY=172.16.0.1\nMAC=02:fc:ac:10:00:02\n"
    )


def test_sshd_takes_keys_alone(files: dict[str, GuestFile]) -> None:
    assert files["/etc/ssh/sshd_config.d/99-banger.conf"].content == (
        "PermitRootLogin prohibit-password\n"
        "PubkeyAuthentication yes\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "AuthorizedKeysFile /root/.ssh/authorized_keys\n"
    )


def test_only_the_network_script_is_executable(files: dict[str, GuestFile]) -> None:
    assert [path for path, file in files.items() if file.mode == 0o755] == [
        "/usr/local/lib/banger/network-up"
    ]
    assert files["/usr/local/lib/banger/network-up"].content.startswith("#!/bin/sh\n")


def test_the_work_disk_is_root_s_home_and_boot_does_not_go_on_without_it() -> None:
    (mount,) = guest_mounts()
    assert (mount.source, mount.target, mount.fstype, mount.passno) == ("/dev/vdb", "/root", "ext4", 2)
    assert "nofail" not in mount.options
