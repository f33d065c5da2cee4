"""The host is rebooted under its VMs."""

from __future__ import annotations

import re
import time

import pytest

from lab.farm import CALL_S, guest, records, wait_for_workers, wait_until_running
from lab.machine import Machine

pytestmark = pytest.mark.lab

LOOKED_AFTER_S = 240.0


@pytest.fixture(scope="module")
def rebooted(lab: Machine, steady):
    """The records of two VMs that ran when the host went down; only the steady one is to be back."""
    made = {"steady": steady, "down": wait_until_running(lab, "down")}
    guest(lab, "steady", "echo kept > /etc/kept; sync")
    lab.reboot()
    wait_for_workers(lab)
    return made


def test_list_is_true_and_who_is_to_be_back_is_back(lab: Machine, rebooted) -> None:
    deadline = time.monotonic() + LOOKED_AFTER_S
    wanted = {"steady": "running", "down": "stopped"}
    while (found := {name: record["state"] for name, record in records(lab).items()}) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(2)
    assert guest(lab, "steady", "cat /etc/kept").strip() == "kept"


def test_nothing_stale_is_left_of_the_other(lab: Machine, rebooted) -> None:
    there = lab.run("dmsetup ls; ip -o link; ls /run/banger/jails; systemctl list-units --all 'banger-vm-*'")
    assert rebooted["steady"]["id"] in there
    assert rebooted["down"]["id"] not in there


def test_services_came_up_by_themselves_and_nothing_has_drifted(lab: Machine, rebooted) -> None:
    assert lab.run("systemctl --failed --plain --no-legend") == ""
    status = lab.json("banger system status --json", deadline_s=CALL_S)
    assert status["well"], status["drift"]
    assert all(re.match("active", unit["active"]) for unit in status["units"])


def test_kvm_is_proven_anew(lab: Machine, rebooted) -> None:
    assert lab.json("cat /run/banger/accelerator.json")["works"]
