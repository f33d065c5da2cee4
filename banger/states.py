"""What a VM is, or is becoming. Which pipeline leads where stands in ``banger.pipelines``."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The state of a VM's record."""

    CREATING = "creating"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    CHANGING = "changing"
    DELETING = "deleting"
    ERROR = "error"
    GONE = "gone"
