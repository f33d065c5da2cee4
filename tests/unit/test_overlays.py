"""The alarm of a system disk that fills up: told once, whoever looks how often."""

from __future__ import annotations

from typing import Any, cast

import pytest
from farm_facts import VM

from banger.contracts.dm_snapshot import Overlay
from banger.contracts.inventory import FoundVm, Inventory
from banger.events import Event
from banger.records import Records
from workers import overlays
from workers.overlays import OverlayAlarm


class Timeline:
    """The farm's memory, as far as the alarm needs it."""

    redis = None

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell_overlay(self, vm_id: str, overlay: Overlay) -> None:
        self.told.append(overlay.level)

    def read(self, vm_id: str) -> list[Event]:
        return [
            Event(id="1-0", at=1.0, kind=kind, vm=vm_id, job="")
            for kind in ("begun", *self.told, "settled", "finished")
        ]


@pytest.fixture
def timeline(monkeypatch: pytest.MonkeyPatch) -> Timeline:
    made = Timeline()
    monkeypatch.setattr(overlays, "Events", lambda _: made)
    return made


def seen(percent: float | None, **more: Any) -> Inventory:
    overlay = None if percent is None else Overlay.model_validate({"percent": percent} | more)
    vm = FoundVm(vm_id=VM, generation=1, slot=2, alive=True, overlay=overlay)
    return Inventory(at=1.0, incarnation="f" * 12, vms=(vm,))


def alarm(timeline: Timeline) -> OverlayAlarm:
    return OverlayAlarm(cast("Records", timeline))


def test_it_is_told_when_it_fills_and_when_it_is_full_and_only_then(timeline: Timeline) -> None:
    watch = alarm(timeline)
    for percent in (10, 79.9, 80, 85, 99):
        watch.look(seen(percent))
    assert timeline.told == ["filling"]
    for _ in range(2):
        watch.look(seen(100, state="full"))
    assert timeline.told == ["filling", "full"]
    watch.look(seen(100, state="invalid"))
    assert timeline.told == ["filling", "full", "invalid"]


def test_a_worker_that_was_restarted_and_a_vm_that_was_do_not_tell_it_again(timeline: Timeline) -> None:
    alarm(timeline).look(seen(90))
    watch = alarm(timeline)
    watch.look(seen(91))
    watch.look(seen(None))
    watch.look(seen(92))
    assert timeline.told == ["filling"]


def test_a_disk_that_was_grown_and_fills_again_is_told_again(timeline: Timeline) -> None:
    watch = alarm(timeline)
    for percent in (90, None, 45, 81):
        watch.look(seen(percent))
    assert timeline.told == ["filling", "filling"]
