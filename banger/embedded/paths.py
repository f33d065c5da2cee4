"""Where an embedded farm keeps what is its own, beside the host's directories."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from banger.settings import Settings


class FarmPaths(NamedTuple):
    """What only the embedded farm keeps, beside the host's own directories."""

    state: Path
    run: Path

    @property
    def logs(self) -> Path:
        """One log file a service."""
        return self.state / "logs"

    def log(self, service: str) -> Path:
        """Return a service's log."""
        return self.logs / f"{service}.log"

    @property
    def redis(self) -> Path:
        """The embedded Redis's data."""
        return self.state / "redis"

    @property
    def redis_config(self) -> Path:
        """The embedded Redis's configuration."""
        return self.state / "redis.conf"

    @property
    def redis_acl(self) -> Path:
        """The users of the embedded Redis, with hashes of their passwords."""
        return self.state / "redis.acl"

    @property
    def redis_socket(self) -> Path:
        """The embedded Redis's Unix socket."""
        return self.run / "redis" / "redis.sock"

    @property
    def policy(self) -> Path:
        """Root's policy, which the root worker reads at its start."""
        return self.state / "policy.json"

    @property
    def installation(self) -> Path:
        """What `banger system install` made, where it did: systemd runs the farm then."""
        return self.state / "install.json"

    @property
    def control(self) -> Path:
        """The supervisor's lock and status."""
        return self.run / "farm"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.control / "supervisor.lock"

    @property
    def status_file(self) -> Path:
        """What the supervisor says of its services."""
        return self.control / "status.json"

    @property
    def staging(self) -> Path:
        """Where a private view is built before it is moved into place."""
        return self.control / "view"


def farm_paths(settings: Settings) -> FarmPaths:
    """Return where this farm keeps what is its own."""
    return FarmPaths(settings.state_dir, settings.run_dir)
