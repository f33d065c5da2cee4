"""dm-snapshot for real: root's stage by itself on the lab's kernel, then two VMs of a farm over one base."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from lab.machine import Machine
from lab.scenarios import PLAY_S, Played

pytestmark = pytest.mark.lab

KEEPER, FILLER = "snap-a", "snap-b"
ROOM_MIB = 24  # of the one that is filled
_BOOT_S = 300.0
_TOLD_S = 240.0
_POLL_S = 2.0
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def played(snapshots: Future[Played]) -> Played:
    """What the scenarios saw."""
    return snapshots.result()


@pytest.mark.timeout(PLAY_S + 60)
def test_ten_vms_at_once_share_a_base_and_nothing_else(played: Played) -> None:
    ten = played["ten"]
    assert ten["failures"] == [""] * 10
    assert ten["apart"]
    assert ten["the rest is the base's"]
    assert ten["base is unchanged"]
    assert ten["nodes"] == [[700_002 + number, "0o600"] for number in range(10)]
    assert ten["loops"] == 20
    assert ten["left"] == []


def test_udev_reads_nothing_that_a_guest_may_have_written(played: Played) -> None:
    assert played["ten"]["udev"] == []


def test_a_stop_and_a_start_keep_what_was_written(played: Played) -> None:
    assert played["keeps"] == {"twice": "kept", "again": "kept", "left": []}


def test_an_overlay_that_is_full_fails_writes_keeps_what_it_has_and_can_be_given_more(played: Played) -> None:
    fills = played["fills"]
    assert fills["filling"]["state"] == "ok"
    assert 80 <= fills["filling"]["percent"] < 100
    assert (fills["failed"], fills["full"]["state"]) == ("Input/output error", "full")
    assert fills["reads go on"] == "0"
    assert "The system disk is full" in fills["refused"]
    assert "--system-disk" in fills["refused"]
    assert fills["left after the refusal"] == []
    assert fills["grown"]["state"] == "ok"
    assert fills["kept"] == ["0", "1", "2"]
    assert fills["written again"] == ""
    assert fills["left"] == []


def test_a_host_whose_own_disk_is_full_loses_the_changes_and_says_so(played: Played) -> None:
    full = played["host-disk-is-full"]
    assert full["failed"] == ["Input/output error"]
    assert full["told"]["state"] == "invalid"
    assert "no longer valid" in full["refused"]
    assert full["left"] == []


def test_a_kernel_without_snapshots_is_told(played: Played) -> None:
    without = played["without-module"]
    assert "The kernel made no snapshot device" in without["refused"]
    assert "banger doctor" in without["refused"]
    assert without["left"] == []


def test_a_kill_anywhere_leaves_what_a_do_goes_on_with_and_an_undo_removes(played: Played) -> None:
    kills = played["kills"]
    assert kills["wrong"] == []
    assert kills["left"] == []
    assert kills["attach"] > 20, "as many places, twice: once to undo, once to do again"
    assert kills["detach"] > 6


# --- a farm's VMs --------------------------------------------------------------------------------


class Vms:
    """Two running VMs of one image; what the commands about them cost a host under emulation is seconds."""

    def __init__(self, lab: Machine) -> None:
        self.lab = lab
        self.base = self.digest()

    def digest(self) -> str:
        return self.lab.run("sha256sum /var/lib/banger/images/*/rootfs.ext4", deadline_s=120)

    def show(self, name: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.lab.json(f"banger vm show {name} --json")
        return shown

    def inside(self, name: str, script: str) -> str:
        return self.lab.run(f"banger vm exec {name} -- sh -c '{script}'", deadline_s=120)

    def kinds(self, name: str) -> list[str]:
        """Return what happened to a VM, oldest first."""
        said = self.lab.run(f"banger events {name} --json")
        return [json.loads(line)["kind"] for line in said.splitlines()]

    def sectors(self, name: str) -> tuple[int, int]:
        """Return how many sectors of a VM's overlay are used, and how many it has."""
        used, room = self.lab.run(f"dmsetup status banger-{self.show(name)['id']}").split()[3].split("/")
        return int(used), int(room)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _TOLD_S
    while not true():
        assert time.monotonic() < deadline, f"not within {_TOLD_S:g} s: {what}"
        time.sleep(_POLL_S)


@pytest.fixture(scope="module")
def vms(lab: Machine) -> Iterator[Vms]:
    made = Vms(lab)
    small = "--image micro --memory 128MiB --disk 64MiB"
    lab.run(
        f"banger vm create {KEEPER} {small} --system-disk 128MiB --no-wait\n"
        f"banger vm create {FILLER} {small} --system-disk {ROOM_MIB}MiB --quiet",
        deadline_s=_BOOT_S,
    )
    until(lambda: made.show(KEEPER)["state"] == "running", f"{KEEPER} runs")
    try:
        yield made
    finally:
        lab.try_run(f"banger vm delete {KEEPER} {FILLER}", deadline_s=120)


def test_the_use_of_an_overlay_is_shown(lab: Machine, vms: Vms) -> None:
    used, room = vms.sectors(KEEPER)
    assert vms.show(KEEPER)["overlay"]["percent"] == pytest.approx(100 * used / room, abs=5)
    assert " % used" in lab.run(f"banger vm show {KEEPER}")


def test_a_guests_changes_are_there_after_a_stop_and_in_no_other_guest(lab: Machine, vms: Vms) -> None:
    vms.inside(KEEPER, "echo mine > /etc/kept && sync")
    assert lab.try_run(f"banger vm exec {FILLER} -- cat /etc/kept", deadline_s=120).code
    lab.run(f"banger vm stop {KEEPER} --quiet", deadline_s=_BOOT_S)
    assert lab.run("dmsetup ls").count("banger-") == 1
    lab.run(f"banger vm start {KEEPER} --quiet", deadline_s=_BOOT_S)
    assert vms.inside(KEEPER, "cat /etc/kept") == "mine\n"
    assert vms.digest() == vms.base


def test_a_guest_that_fills_its_disk_is_told_of_ends_in_error_and_can_be_given_more(
    lab: Machine, vms: Vms
) -> None:
    used, room = vms.sectors(FILLER)
    first = (room * 85 // 100 - used) // 2048
    vms.inside(FILLER, f"dd if=/dev/urandom of=/fill bs=1M count={first} 2>/dev/null && sync")
    until(lambda: "filling" in vms.kinds(FILLER), "the alarm")
    assert "full" not in vms.kinds(FILLER)
    # It fails in the guest, or hangs with it: nobody waits for that, for what counts is what the farm says.
    vms.inside(FILLER, "(cat /fill > /more; sync) > /dev/null 2>&1 &")
    until(lambda: vms.show(FILLER)["state"] == "error", "the VM is in error")
    shown = vms.show(FILLER)
    assert shown["error"]["stage"] == "attach_system_disk"
    assert "system disk is full" in shown["error"]["brief"]
    assert vms.kinds(FILLER).count("filling") == 1
    assert vms.kinds(FILLER).count("full") == 1
    lab.run(
        f"banger vm kill {FILLER} --quiet; banger vm set {FILLER} --system-disk 64MiB --quiet\n"
        f"banger vm start {FILLER} --quiet",
        deadline_s=_BOOT_S,
    )
    assert vms.inside(FILLER, "stat -c %s /fill") == f"{first * MIB}\n"


def test_nothing_is_left_when_they_are_deleted(lab: Machine, vms: Vms) -> None:
    lab.run(f"banger vm delete {KEEPER} {FILLER} --quiet", deadline_s=_BOOT_S)
    assert "banger-" not in lab.run("dmsetup ls")
    assert "/var/lib/banger" not in lab.run("losetup --list --noheadings --output BACK-FILE")
    assert vms.digest() == vms.base
