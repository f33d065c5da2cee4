"""Services are replaced by newer ones while VMs run: their guests notice nothing.

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


def test_guests_survive_an_upgrade(lab: Machine, newer: Future[Path], steady) -> None:
    boot = boot_id(lab, NAME)
    bring(lab, newer.result())
    run_steps(lab, "Upgrade")
    wait_for_workers(lab)
    status = lab.json("banger system status --json", deadline_s=CALL_S)
    assert (status["version"], status["well"]) == (NEWER, True), status
    assert boot_id(lab, NAME) == boot
