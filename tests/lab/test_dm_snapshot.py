"""dm-snapshot for real: root's stage by itself on the lab's kernel, then two VMs of a farm over one base.

Both are played beside the tests before these (see ``lab.conftest``), which judge what was seen.
"""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from lab.scenarios import PLAY_S, Played
from lab.two_vms import LIVE_S

pytestmark = pytest.mark.lab


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


@pytest.fixture(scope="module")
def lived(two_vms: Future[Played]) -> Played:
    """What was seen of a farm's two VMs."""
    return two_vms.result()


@pytest.mark.timeout(LIVE_S)
def test_the_use_of_an_overlay_is_told(lived: Played) -> None:
    keeps = lived["keeps"]
    assert keeps["told"] == pytest.approx(keeps["percent"], abs=5)
    assert " % used" in keeps["shown"]


def test_a_guests_changes_are_there_after_a_stop_and_in_no_other_guest(lived: Played) -> None:
    keeps = lived["keeps"]
    assert keeps["kept"] == "mine\n"
    assert not keeps["in the other"]
    assert not keeps["attached while stopped"]


def test_a_guest_that_fills_its_disk_is_told_of_ends_in_error_and_can_be_given_more(lived: Played) -> None:
    fills = lived["fills"]
    assert not fills["full at the alarm"]
    assert fills["error"]["stage"] == "attach_system_disk"
    assert "system disk is full" in fills["error"]["brief"]
    assert fills["told"] == {"filling": 1, "full": 1}
    assert fills["lost"] == 0


def test_nothing_is_left_when_they_are_deleted(lived: Played) -> None:
    assert lived["left"] == []
    assert lived["base is unchanged"]
