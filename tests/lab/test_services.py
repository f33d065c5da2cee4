"""Services come and go, and are replaced by newer ones, while VMs run: their guests notice nothing.

That the newer ones look after what the older ones made, the reboot shows, which comes next.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.farm import CALL_S, boot_id, wait_for_workers
from lab.installation import bring, run_steps
from lab.machine import Machine
from lab.wheel import build_wheel

pytestmark = pytest.mark.lab

NEWER = "99.0.0"
NAME = "steady"


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Path]]:
    """The wheel of a newer version, which is built meanwhile."""
    with ThreadPoolExecutor(1) as meanwhile:
        yield meanwhile.submit(build_wheel, tmp_path_factory.mktemp("newer"), version=NEWER)


@pytest.fixture(scope="module")
def boot(lab: Machine, newer: Future[Path], steady) -> str:
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


def test_guests_survive_an_upgrade(lab: Machine, boot: str, newer: Future[Path]) -> None:
    bring(lab, newer.result())
    run_steps(lab, "Upgrade")
    wait_for_workers(lab)
    status = lab.json("banger system status --json", deadline_s=CALL_S)
    assert (status["version"], status["well"]) == (NEWER, True), status
    assert boot_id(lab, NAME) == boot


def _pids(lab: Machine) -> set[str]:
    return set(lab.run("systemctl show -P MainPID banger-worker banger-root-worker").split())
