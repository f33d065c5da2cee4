"""The life of one VM, in order: created, used, stopped, started, changed, outliving its farm, deleted."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from farm_box import Box, eventually
from guests import guest, said

from banger.contracts.errors import InvalidInputError, WrongStateError
from banger.contracts.names import slot
from banger.contracts.states import State
from banger.embedded import control
from banger.events import Event
from banger.guest_copy import copy_from_guest, copy_to_guest
from banger.records import Record
from banger.ssh import ssh_argv

pytestmark = pytest.mark.real

BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")


class Created(NamedTuple):
    """A VM called ``dev``, what was there before it, and what happened while it was made."""

    record: Record
    before: set[str]
    events: list[Event]


@pytest.fixture(scope="module")
def dev(box: Box) -> Created:
    before, events = box.traces(), []
    record = box.farm.create("dev", disk_mib=256, on_event=events.append)
    return Created(record, before, events)


@pytest.fixture(scope="module", autouse=True)
def _short_lived(box: Box) -> Iterator[None]:
    """A VM whose time is over soon: nobody deletes it, and it is gone in the end."""
    record = box.farm.create("short-lived", start=False, ttl_s=1.0)
    assert record.state is State.STOPPED
    yield
    eventually(lambda: box.farm.records.get(record.id) is None)


def graceful(events: list[Event]) -> list[bool]:
    return [e.data["graceful"] for e in events if (e.stage, e.kind) == ("guest_shutdown", "finished")]


def test_create_goes_through_both_queues_stage_by_stage(box, dev):
    work, root = f"banger.work.{box.settings.host}", f"banger.root.{box.settings.host}"
    assert [(e.stage, e.queue) for e in dev.events if e.kind == "finished"] == [
        ("reserve", "banger.control"),
        ("admit", root),
        ("overlay", work),
        ("attach_system_disk", root),
        ("patch_rootfs", root),
        ("work_disk", work),
        ("tap", root),
        ("launch", root),
        ("wait_ready", work),
    ]
    assert {e.kind for e in dev.events} == {"started", "finished", "settled"}
    assert dev.events[-1].state == dev.record.state == State.RUNNING
    assert dev.record.generation == 1
    assert [e.id for e in box.farm.timeline("dev")] == [e.id for e in dev.events]


def test_the_exit_code_is_the_commands_own(box, dev):
    assert guest(box, "dev", "sh", "-c", "exit 42", good=None).returncode == 42
    assert guest(box, "dev", "sh", "-c", "kill -9 $$", good=None).returncode == 128 + 9


def test_arguments_arrive_word_for_word(box, dev):
    words = ["a b", "", "*", "$HOME", "it's", 'say "x"', "back\\slash", "new\nline", "-n", ";", "é"]
    assert said(box, "dev", "printf", r"%s\0", *words).split("\0")[:-1] == words


def test_stdin_stdout_and_stderr_are_three(box, dev):
    data = bytes(range(256)) * 1000
    done = guest(box, "dev", "sh", "-c", "cat; echo oops >&2", stdin=data)
    assert (done.stdout, done.stderr) == (data, b"oops\n")


def test_files_are_copied_both_ways(box, dev, tmp_path):
    ssh = functools.partial(ssh_argv, box.paths, dev.record.id, str(dev.record.address))
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/tool").write_bytes(bytes(range(256)))
    (tmp_path / "tree/deep/tool").chmod(0o750)
    copy_to_guest(ssh, tmp_path / "tree", "/root", deadline_s=30)
    assert said(box, "dev", "stat", "-c", "%a %u %g", "/root/tree/deep/tool") == "750 0 0\n"
    assert copy_from_guest(ssh, "/root/tree", tmp_path / "back", deadline_s=30) == ()
    assert (tmp_path / "back/deep/tool").read_bytes() == bytes(range(256))


def test_the_guest_has_the_files_that_its_capabilities_give(box, dev):
    mine = slot(dev.record.slot, box.settings.network, box.settings.uid_base)
    expected = {
        "/etc/resolv.conf": "nameserver 172.16.0.1\nnameserver 1.1.1.1\n",
        "/etc/hostname": "dev\n",
        "/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 dev\n",
        "/etc/banger/network.conf": f"ADDRESS={mine.address}\nPREFIX=24\n"
        f"GATEWAY={mine.gateway}\nMAC={mine.mac}\n",
        "/etc/ssh/sshd_config.d/99-banger.conf": "PermitRootLogin prohibit-password\n"
        "PubkeyAuthentication yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "AuthorizedKeysFile /root/.ssh/authorized_keys\n",
    }
    found = said(box, "dev", "sh", "-c", 'for f; do cat "$f"; printf "\\0"; done', "sh", *expected)
    assert dict(zip(expected, found.split("\0"), strict=False)) == expected
    script, fstab = "/usr/local/lib/banger/network-up", "/etc/fstab"
    modes = said(box, "dev", "stat", "-c", "%a %u:%g %F", *expected, fstab, script).splitlines()
    assert modes == ["644 0:0 regular file"] * (len(expected) + 1) + ["755 0:0 regular file"]
    assert said(box, "dev", "hostname") == "dev\n"


def test_the_guests_mounts_are_those_of_its_fstab(box, dev):
    fields = [line.split() for line in said(box, "dev", "cat", "/etc/fstab").splitlines()]
    assert ["tmpfs", "/run", "tmpfs", "defaults,nodev,nosuid,mode=0755", "0", "0"] in fields
    assert ["tmpfs", "/tmp", "tmpfs", "defaults,nodev,nosuid,mode=1777", "0", "0"] in fields
    assert ["/dev/vdb", "/root", "ext4", "defaults", "0", "2"] in fields
    mounts = {m.split()[1]: m.split()[:3:2] for m in said(box, "dev", "cat", "/proc/mounts").splitlines()}
    assert (mounts["/root"], mounts["/tmp"][1], mounts["/run"][1]) == (["/dev/vdb", "ext4"], "tmpfs", "tmpfs")
    modes = said(box, "dev", "stat", "-c", "%a %u", "/root", "/root/.ssh", "/root/.ssh/authorized_keys")
    assert modes.splitlines() == ["700 0", "700 0", "600 0"]


def test_a_running_vm_is_not_changed(box, dev):
    with pytest.raises(WrongStateError, match="dev is running; set needs it stopped"):
        box.farm.set("dev", vcpus=2)


def test_stop_and_start_keep_both_disks_and_the_host_key(box, dev):
    known_hosts = box.paths.known_hosts(dev.record.id).read_text()
    guest(box, "dev", "sh", "-c", "echo system > /opt.kept; echo work > /root/kept")
    events: list[Event] = []
    assert box.farm.stop("dev", on_event=events.append).state is State.STOPPED
    assert graceful(events) == [True]
    assert not [line for line in box.traces() if line.startswith(("process", "link", "nft", "neighbour"))]
    with pytest.raises(WrongStateError, match="dev is stopped, not running"):
        box.farm.require_running("dev")
    record = box.farm.start("dev")
    assert (record.state, record.generation) == (State.RUNNING, 2)
    assert said(box, "dev", "cat", "/opt.kept", "/root/kept") == "system\nwork\n"
    assert box.paths.known_hosts(dev.record.id).read_text() == known_hosts


def test_restart_boots_the_guest_anew(box, dev):
    before = said(box, "dev", *BOOT_ID)
    assert box.farm.restart("dev").generation == 3
    assert said(box, "dev", *BOOT_ID) != before


def test_kill_ends_the_vmm_without_asking_the_guest(box, dev):
    events: list[Event] = []
    assert box.farm.kill("dev", on_event=events.append).state is State.STOPPED
    assert graceful(events) == []


def test_a_stopped_vm_is_changed_and_its_guest_sees_it(box, dev):
    with pytest.raises(InvalidInputError, match="only grows"):
        box.farm.set("dev", disk_mib=128)
    changed = box.farm.set("dev", vcpus=2, memory_mib=384, disk_mib=512)
    assert (changed.spec.vcpus, changed.spec.memory_mib, changed.spec.disk_mib) == (2, 384, 512)
    box.farm.start("dev")
    assert said(box, "dev", "nproc") == "2\n"
    memory_kib = int(said(box, "dev", "cat", "/proc/meminfo").split()[1])
    assert 320 * 1024 < memory_kib < 384 * 1024
    disk_mib = int(said(box, "dev", "df", "-Pm", "/root").splitlines()[1].split()[1])
    assert 440 < disk_mib <= 512
    assert said(box, "dev", "cat", "/root/kept") == "work\n"


def test_the_vm_outlives_its_farm_and_is_managed_again(box, dev):
    boot_id = said(box, "dev", *BOOT_ID)
    command = ssh_argv(
        box.paths, dev.record.id, str(dev.record.address), ["cat", "/proc/sys/kernel/random/boot_id"]
    )
    assert control.down(box.settings)
    assert subprocess.run(command, capture_output=True, check=True).stdout.decode() == boot_id
    box.up()
    assert said(box, "dev", *BOOT_ID) == boot_id
    assert box.farm.stop("dev").state is State.STOPPED
    assert box.farm.start("dev").state is State.RUNNING


def test_delete_leaves_nothing(box, dev):
    mine = {line for line in box.traces() - dev.before if "short-lived" not in line}
    for kind in ("file", "link", "nft chain", "nft map", "neighbour", "process", "name", "lease"):
        assert any(line.startswith(kind) for line in mine), (kind, mine)
    box.farm.delete("dev")
    assert not box.traces() & mine
    assert "dev" not in [record.name for record in box.farm.list()]
    assert not Path(f"/proc/{vmm(dev.events)}").exists()


def vmm(events: list[Event]) -> int:
    return next(int(e.data["pid"]) for e in events if (e.stage, e.kind) == ("launch", "finished"))
