"""Scenarios of root's, each of which one process plays in the lab's host: they need no worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.installation import PYTHON
from lab.machine import Machine

PLAY_S = 1200.0
Played = dict[str, Any]  # what each of them saw, by its name
_SCRIPTS = Path(__file__).with_name("on_host")


def play_snapshots(machine: Machine) -> Played:
    """Play those of snapshots; some say why they failed, LabError where the process did."""
    return _play(machine, "snapshots.py")


def play_killed_starts(machine: Machine) -> Played:
    """Kill root at each step of a start; LabError where the process failed."""
    return _play(machine, "killed_starts.py", "unshare --mount --propagation slave -- ")


def _play(machine: Machine, script: str, within: str = "") -> Played:
    machine.put(_SCRIPTS / script, f"/root/{script}")
    found: Played = machine.json(f"{within}{PYTHON} /root/{script}", deadline_s=PLAY_S)
    return found
