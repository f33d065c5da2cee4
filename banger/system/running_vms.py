"""Which VMs run on this host? Root's registry knows their slots, the kernel what lives under a slot's uid."""

from __future__ import annotations

from contextlib import suppress

import psutil
from pydantic import ValidationError

from banger.contracts.names import slot
from banger.contracts.registry import Entry
from banger.settings import Settings


def running_vms(settings: Settings) -> tuple[str, ...]:
    """Return the ids of the VMs of which a process lives, be it the VMM or its keeper. Needs root."""
    alive = _living_uids()
    found = []
    for file in sorted(settings.paths.registry.glob("*.json")):
        with suppress(ValidationError, FileNotFoundError):
            number = Entry.model_validate_json(file.read_bytes()).slot
            if number is not None and slot(number, settings.network, settings.uid_base).uid in alive:
                found.append(file.stem)
    return tuple(found)


def _living_uids() -> set[int]:
    """Return whom processes run as that are no zombies."""
    seen = (process.info for process in psutil.process_iter(["uids", "status"]))
    return {one["uids"].real for one in seen if one["uids"] and one["status"] != psutil.STATUS_ZOMBIE}
