"""Tell when the room for a guest's changes runs out: once when it fills, once when it is full or invalid.

What was told is on the VM's timeline, so that another process of this worker does not tell it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from banger.contracts.dm_snapshot import LEVELS
from banger.events import Events

if TYPE_CHECKING:
    from banger.contracts.dm_snapshot import Level
    from banger.contracts.inventory import Inventory
    from banger.records import Records


class OverlayAlarm:
    """Remembers how bad each VM's overlay was when it was looked at last."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: dict[str, Level] = {}

    def look(self, inventory: Inventory) -> None:
        """Tell what has become worse."""
        before, self._known = self._known, {}
        for vm in inventory.vms:
            if vm.overlay is None:
                continue
            level = vm.overlay.level
            if level:
                known = before[vm.vm_id] if vm.vm_id in before else self._told(vm.vm_id)
                if LEVELS.index(level) > LEVELS.index(known):
                    self._records.tell_overlay(vm.vm_id, vm.overlay)
            self._known[vm.vm_id] = level

    def _told(self, vm_id: str) -> Level:
        events = Events(self._records.redis).read(vm_id)
        told: list[Level] = [level for event in events for level in LEVELS[1:] if event.kind == level]
        return told[-1] if told else ""
