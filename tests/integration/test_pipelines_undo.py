"""Every undo of a create, in order, where there is nothing to undo: not yet, or not any more."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import VM, context, make_host
from netns import private_network

from banger.contracts.requests import UndoRequest
from banger.contracts.stages import STAGES, Side
from banger.pipelines import CREATE
from root_worker import stages as root_stages
from root_worker.host import RootHost
from workers import stages as work_stages

pytestmark = pytest.mark.integration


@pytest.fixture
def host() -> Iterator[RootHost]:
    with private_network():
        state = Path(tempfile.mkdtemp(prefix="banger-test-", dir="/var/tmp"))
        try:
            made = make_host(state)
            shutil.rmtree(made.paths.vm(VM))
            yield made
        finally:
            shutil.rmtree(state)


def test_undoing_a_create_that_never_began_does_nothing_and_may_be_repeated(host: RootHost) -> None:
    for _ in range(2):
        for stage in CREATE.unwinding:
            request = UndoRequest(vm_id=VM, generation=1)
            if STAGES[stage].side is Side.ROOT:
                root_stages.EFFECTS[stage, "undo"](request, host)
            else:
                work_stages.EFFECTS[stage, "undo"](request, context(host.paths))
        assert host.registry.entries() == []
        assert list(host.paths.vms.iterdir()) == []
        assert list(host.paths.jails.glob("*")) == []  # not even made for a VM that root does not know
