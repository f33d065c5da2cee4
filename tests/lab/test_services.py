"""Services come and go, and are replaced by newer ones, while VMs run: their guests notice nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.farm import CALL_S, boot_id, guest, wait_for_workers
from lab.installation import bring, run_steps
from lab.machine import Machine
from lab.wheel import build_wheel

pytestmark = pytest.mark.lab

NEWER = "99.0.0"
NAME = "steady"


@pytest.fixture(scope="module")
def boot(lab: Machine, steady) -> str:
    """The boot id of a guest that runs all the while."""
    return boot_id(lab, NAME)


def test_guests_survive_a_restart_of_all_services(lab: Machine, boot: str) -> None:
    before = _pids(lab)
    lab.run("banger system restart", deadline_s=CALL_S)
    wait_for_workers(lab)
    assert not before & _pids(lab), "they are others now"
    assert boot_id(lab, NAME) == boot


def test_guests_survive_a_kill_of_both_workers(lab: Machine, boot: str) -> None:
    before = _pids(lab)
    # Until systemd has started others, the last ones' word that they are ready is still what there is.
    lab.run(
        "systemctl kill --signal=KILL --kill-whom=main banger-worker banger-root-worker\n"
        "while systemctl show -P MainPID banger-worker banger-root-worker\\\n"
        f"    | grep -xE '{'|'.join(('0', *before))}' >/dev/null; do sleep 0.5; done"
    )
    wait_for_workers(lab)
    assert boot_id(lab, NAME) == boot


def test_guests_survive_an_upgrade(lab: Machine, boot: str, tmp_path: Path) -> None:
    bring(lab, build_wheel(tmp_path, version=NEWER))
    run_steps(lab, "Upgrade")
    wait_for_workers(lab)
    status = lab.json("banger system status --json", deadline_s=CALL_S)
    assert (status["version"], status["well"]) == (NEWER, True), status
    assert boot_id(lab, NAME) == boot


def test_the_newer_services_look_after_what_the_older_ones_made(lab: Machine, boot: str) -> None:
    lab.run(f"banger vm restart {NAME}", deadline_s=CALL_S)
    assert guest(lab, NAME, "echo well").strip() == "well"
    assert boot_id(lab, NAME) != boot


def _pids(lab: Machine) -> set[str]:
    return set(lab.run("systemctl show -P MainPID banger-worker banger-root-worker").split())
