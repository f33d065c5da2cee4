"""What becomes of a VM that the farm has forgotten and its host has not."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from farm_facts import NETWORK, VM, record, spec

from banger.contracts.inventory import FoundVm
from banger.contracts.names import HostPaths
from banger.contracts.states import State
from workers import intents, new_file
from workers.host import WorkHost
from workers.restore import now, stray

TABLE = [
    # intended, alive, becomes, and is deleted
    (State.RUNNING, True, State.RUNNING, False),
    (State.RUNNING, False, State.STOPPED, False),
    (State.STOPPED, False, State.STOPPED, False),
    (State.STOPPED, True, State.RUNNING, False),
    (State.STARTING, True, State.RUNNING, False),
    (State.STARTING, False, State.STOPPED, False),
    (State.STOPPING, True, State.RUNNING, False),
    (State.STOPPING, False, State.STOPPED, False),
    (State.CHANGING, False, State.STOPPED, False),
    (State.ERROR, False, State.ERROR, False),
    (State.CREATING, False, State.ERROR, True),
    (State.CREATING, True, State.RUNNING, False),
    (State.DELETING, False, State.ERROR, True),
    (State.DELETING, True, State.ERROR, True),
]


@pytest.mark.parametrize(("intended", "alive", "becomes", "deleted"), TABLE)
def test_the_state_is_what_is_found(intended: State, alive: bool, becomes: State, deleted: bool) -> None:
    assert now(record(state=intended), alive=alive) == (becomes, deleted)


@pytest.mark.parametrize("alive", [True, False])
def test_what_a_command_had_for_itself_is_removed(alive: bool) -> None:
    assert now(record(state=State.RUNNING, spec=spec(ephemeral=True)), alive=alive) == (State.ERROR, True)


def test_what_root_alone_knows_of_can_be_removed(tmp_path: Path) -> None:
    host = WorkHost("here", HostPaths(tmp_path, tmp_path), NETWORK, 300_000, "copy")
    found = stray(VM, FoundVm(vm_id=VM, generation=3, slot=5, alive=False), host)
    assert (found.id, found.generation, found.slot, found.address) == (VM, 3, 5, "172.16.0.5")
    assert now(found, alive=False) == (State.ERROR, True)


def test_an_intent_is_written_for_what_is_made_and_never_for_what_is_gone(tmp_path: Path) -> None:
    paths = HostPaths(tmp_path, tmp_path / "run")
    paths.vms.mkdir()
    intents.remember(paths, record())
    assert list(paths.vms.iterdir()) == []
    intents.remember(paths, record(), make=True)
    assert list(intents.all_of_them(paths)) == [record()]
    stopped = record(state=State.STOPPED, job=None)
    intents.remember(paths, stopped)
    assert intents.recall(paths, VM) == stopped
    paths.intent(VM).write_text("{")
    assert intents.recall(paths, VM) is None
    (paths.vms / "lost+found").mkdir()
    assert list(intents.all_of_them(paths)) == []


def test_two_who_remember_at_once_leave_the_younger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = HostPaths(tmp_path, tmp_path / "run")
    paths.vm(VM).mkdir(parents=True)
    at_the_disk, sync = threading.Event(), new_file.sync

    def slow(path: Path) -> None:
        at_the_disk.set()
        time.sleep(0.05)  # in which the other one would take our scratch file away
        sync(path)

    monkeypatch.setattr(new_file, "sync", slow)
    younger = record(rev=3)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(intents.remember, paths, record(rev=2))
        assert at_the_disk.wait(5)
        intents.remember(paths, younger)
        first.result()
    assert intents.recall(paths, VM) == younger


def test_who_remembers_while_the_directory_is_removed_does_not_mind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, recall = HostPaths(tmp_path, tmp_path / "run"), intents.recall
    paths.vm(VM).mkdir(parents=True)

    def removed_meanwhile(*asked: Any) -> Any:
        paths.vm(VM).rmdir()
        return recall(*asked)

    monkeypatch.setattr(intents, "recall", removed_meanwhile)
    intents.remember(paths, record())
    assert not paths.vm(VM).exists()
