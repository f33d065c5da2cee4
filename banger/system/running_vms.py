"""Which VMs run on this host? Root's registry knows their processes; the kernel, whether they live."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from banger.contracts.names import HostPaths


def running_vms(paths: HostPaths) -> tuple[str, ...]:
    """Return the ids of the VMs whose VMM lives. Needs root."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    found = []
    for file in sorted(paths.registry.glob("*.json")):
        with contextlib.suppress(ValueError, FileNotFoundError):
            vmm = json.loads(file.read_bytes()).get("vmm")
            if vmm and vmm["boot_id"] == boot_id and _started(vmm["pid"]) == vmm["start_ticks"]:
                found.append(file.stem)
    return tuple(found)


def _started(pid: int) -> int | None:
    """Return when a process started (clock ticks since boot), None where there is none."""
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None
