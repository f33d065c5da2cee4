"""The ``debian`` image, booted once: systemd and OpenSSH as design and image promise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from farm_box import Box
from guests import guest, said

from banger.contracts.states import State
from banger.events import Event

pytestmark = pytest.mark.real

VM = "bookworm"


@pytest.fixture(scope="module")
def debian(box: Box) -> Iterator[Box]:
    """A farm with a booted Debian guest."""
    before = box.traces()
    box.farm.create(VM, image="debian", memory_mib=512, disk_mib=128)
    yield box
    box.farm.delete(VM)
    assert box.traces() == before


def test_systemd_is_up_and_no_unit_has_failed(debian):
    assert said(debian, VM, "cat", "/proc/1/comm") == "systemd\n"
    state = guest(debian, VM, "systemctl", "is-system-running", "--wait", good=None).stdout.decode().strip()
    failed = said(debian, VM, "systemctl", "--failed", "--no-legend")
    assert (state, failed) == ("running", "")


def test_the_sshd_drop_in_is_effective_and_strict_modes_stay_on(debian):
    settings = dict(line.split(" ", 1) for line in said(debian, VM, "sshd", "-T").splitlines())
    assert settings["permitrootlogin"] in ("prohibit-password", "without-password")
    assert settings["pubkeyauthentication"] == "yes"
    assert settings["passwordauthentication"] == "no"
    assert settings["kbdinteractiveauthentication"] == "no"
    assert settings["authorizedkeysfile"] == "/root/.ssh/authorized_keys"
    assert settings["strictmodes"] == "yes"


def test_the_guests_files_are_those_of_its_capabilities(debian):
    assert said(debian, VM, "hostname") == f"{VM}\n"
    assert said(debian, VM, "cat", "/etc/hosts") == f"127.0.0.1 localhost\n127.0.1.1 {VM}\n"
    assert said(debian, VM, "cat", "/etc/resolv.conf") == "nameserver 172.16.0.1\nnameserver 1.1.1.1\n"
    assert said(debian, VM, "stat", "-c", "%F", "/etc/resolv.conf") == "regular file\n"


def test_fstabs_mounts_are_mounted_and_the_work_disk_comes_from_the_seed(debian):
    mounted = said(debian, VM, "findmnt", "--noheadings", "--raw", "--output", "TARGET,SOURCE,FSTYPE")
    mounts = {target: (source, kind) for target, source, kind in map(str.split, mounted.splitlines())}
    assert mounts["/root"] == ("/dev/vdb", "ext4")
    assert (mounts["/run"][1], mounts["/tmp"][1]) == ("tmpfs", "tmpfs")
    assert said(debian, VM, "stat", "-c", "%a %U:%G", "/root", "/root/.ssh") == "700 root:root\n" * 2
    assert {".bashrc", ".profile"} <= set(said(debian, VM, "ls", "-A", "/root").split())
    disk_mib = int(said(debian, VM, "df", "-Pm", "/root").splitlines()[1].split()[1])
    assert 90 < disk_mib <= 128


def test_stop_powers_it_off(debian):
    events: list[Event] = []
    assert debian.farm.stop(VM, timeout_s=60, on_event=events.append).state is State.STOPPED
    shutdown = next(e for e in events if (e.stage, e.kind) == ("guest_shutdown", "finished"))
    assert shutdown.data == {"graceful": True}
    log = debian.paths.serial_log(debian.farm.show(VM).id).read_text(errors="replace")
    assert "exited with status 0" in log.splitlines()[-1]
