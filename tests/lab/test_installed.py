"""What docs/production.md has made of a bare Debian: services that run, confined, with KVM proven."""

from __future__ import annotations

import re

import pytest

from lab.farm import CALL_S
from lab.installation import run_steps
from lab.machine import Machine

pytestmark = pytest.mark.lab

SERVICES = ("banger-redis", "banger-network", "banger-worker", "banger-root-worker", "banger-flower")
EXPOSED_AT_MOST = {"banger-root-worker": 5.0, "banger-worker": 3.5, "banger-redis": 3.5, "banger-flower": 3.5}


def test_the_services_run_and_nothing_failed(lab: Machine) -> None:
    active = lab.run(f"systemctl is-active banger.target {' '.join(SERVICES)}").split()
    assert active == ["active"] * (len(SERVICES) + 1)
    assert lab.run("systemctl --failed --plain --no-legend") == ""


def test_units_are_as_confined_as_promised(lab: Machine) -> None:
    said = lab.run(f"systemd-analyze security --no-pager {' '.join(EXPOSED_AT_MOST)}", deadline_s=CALL_S)
    found = re.findall(r"Overall exposure level for (\S+)\.service: ([\d.]+)", said)
    exposure = {unit: float(level) for unit, level in found}
    assert set(exposure) == set(EXPOSED_AT_MOST), said
    assert not {unit: level for unit, level in exposure.items() if level > EXPOSED_AT_MOST[unit]}


def test_the_document_ends_with_a_doctor_that_is_content(lab: Machine) -> None:
    said = run_steps(lab, "See that it is well")
    assert re.search(r"^ok +accelerator +kvm\b", said, re.MULTILINE), said
    assert re.search(r"^ok +disk backend +dm-snapshot\b", said, re.MULTILINE), said
    assert re.search(r"^ok +names +in guests\b", said, re.MULTILINE), said
    assert not re.search(r"^fail ", said, re.MULTILINE), said
