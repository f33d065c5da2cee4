"""What an operator sees in Flower: a VM's whole chain, through both queues, by the VM's id."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from farm_box import Box

from banger.embedded import credentials
from banger.events import Event

pytestmark = pytest.mark.real


def tasks(box: Box) -> dict[str, Any]:
    farm = credentials.load(box.settings.farm_file)
    assert farm
    login = base64.b64encode(f"{farm.flower_user}:{farm.flower_password}".encode()).decode()
    request = urllib.request.Request(
        f"{farm.flower_url}/api/tasks?limit=1000", headers={"Authorization": f"Basic {login}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def chain_of(box: Box, vm_id: str, length: int) -> list[dict[str, Any]]:
    """Return the VM's tasks once Flower has seen them all succeed, in the order of their steps."""
    deadline = time.monotonic() + 20
    while True:
        ours = [task for task_id, task in sorted(tasks(box).items()) if task_id.startswith(vm_id)]
        if len(ours) == length and all(task["state"] == "SUCCESS" for task in ours):
            return ours
        assert time.monotonic() < deadline, ours
        time.sleep(0.2)


def test_a_vms_chain_is_followed_through_both_queues(box: Box) -> None:
    events: list[Event] = []
    vm = box.farm.create("seen", start=False, on_event=events.append)
    *chain, reserve = chain_of(box, vm.id, 4)
    host = box.settings.host
    assert [(task["name"], task["worker"]) for task in chain] == [
        ("banger.root.admit", f"root@{host}"),
        ("banger.work.overlay", f"work@{host}"),
        ("banger.work.work_disk", f"work@{host}"),
    ]
    assert (reserve["name"], reserve["worker"]) == ("banger.control.reserve", f"work@{host}")
    assert {task["root_id"] for task in chain} == {chain[0]["uuid"]}, "linked as one chain"
    for task, stage in zip(chain, ("admit", "overlay", "work_disk"), strict=True):
        assert task["args"] == f"vm={vm.id} job={events[0].job} stage={stage} generation=1"
    box.farm.delete("seen")


def test_flower_shows_nothing_without_its_password(box: Box) -> None:
    farm = credentials.load(box.settings.farm_file)
    assert farm
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{farm.flower_url}/api/tasks", timeout=10)
