"""What the supervisor is handed, and what it says: plain values, with no way back to the settings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

State = Literal["starting", "running", "waiting", "stopping", "stopped", "external"]


class Service(BaseModel):
    """One supervised process.

    It is *running* once ``ready_line`` has appeared in its log, started when the services in ``needs`` run,
    and killed ``stop_s`` seconds after it was asked to end. ``serves`` is its URL or queues, for people.
    ``optional``: the farm works without it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    user: str
    log: Path
    serves: str
    ready_line: str
    needs: tuple[str, ...] = ()
    stop_s: float
    optional: bool = False


class Plan(BaseModel):
    """All of a farm: its services in starting order, and the groups in which they are stopped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    services: tuple[Service, ...]
    stop_order: tuple[tuple[str, ...], ...]
    lock_file: Path
    status_file: Path
    log: Path


class ServiceStatus(BaseModel):
    """A service as it is now. ``since`` is when this process was started; ``serves`` its URL or queues."""

    name: str
    state: State
    pid: int | None = None
    since: datetime | None = None
    restarts: int = 0
    user: str = ""
    serves: str = ""
    optional: bool = False

    @property
    def failing(self) -> bool:
        """Whether it has died since it was started, and does not run now."""
        return self.restarts > 0 and self.state != "running"


class FarmStatus(BaseModel):
    """A farm as it is now; ``pid`` is the supervisor's, None where none runs."""

    pid: int | None = None
    since: datetime | None = None
    services: tuple[ServiceStatus, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the supervisor and every service run; one that has said nothing yet is not ready.

        One that the farm works without may be failing.
        """
        supervised = [one for one in self.services if one.state != "external"]
        idle = [one for one in supervised if one.state != "running" and not (one.optional and one.failing)]
        return self.pid is not None and bool(supervised) and not idle
