"""Uninstall takes what install has made, and the host is as it was. The last of the lab's tests."""

from __future__ import annotations

import pytest

from lab.farm import CALL_S, delete, records
from lab.installation import run_steps
from lab.machine import Machine
from lab.traces import Traces, traces_of

pytestmark = pytest.mark.lab


def test_a_farm_with_running_vms_is_not_uninstalled(lab: Machine, steady) -> None:
    ended = lab.try_run("banger system uninstall", deadline_s=CALL_S)
    assert (ended.code, "1 VMs run here" in ended.err) == (2, True), ended.err
    delete(lab, *records(lab))


def test_uninstall_leaves_nothing(lab: Machine, before_farm: Traces) -> None:
    run_steps(lab, "Uninstall")
    after = traces_of(lab)
    assert sorted(after - before_farm) == []
    assert sorted(before_farm - after) == []
