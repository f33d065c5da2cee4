"""Scenarios of root's snapshots, which one process plays in the lab's host: they need no worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.installation import PYTHON
from lab.machine import Machine

PLAY_S = 1200.0
Played = dict[str, Any]  # what each of them saw, by its name
_SCRIPT = Path(__file__).with_name("on_host") / "snapshots.py"


def play_snapshots(machine: Machine) -> Played:
    """Play them all; some say why they failed, LabError where the process did."""
    machine.put(_SCRIPT, "/root/snapshots.py")
    found: Played = machine.json(f"{PYTHON} /root/snapshots.py", deadline_s=PLAY_S)
    return found
