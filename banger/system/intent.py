"""What an installation is made from, and why a host, or the way banger lies on it, may not do for one."""

from __future__ import annotations

import pwd
from typing import NamedTuple

from banger import disk_backend, name_server
from banger.contracts.errors import ConflictError, InvalidInputError
from banger.contracts.tickets import TicketKey
from banger.embedded import credentials as passwords
from banger.embedded.lock import holder
from banger.embedded.owner import owner_of
from banger.embedded.paths import farm_paths
from banger.embedded.ports import Ports, choose_ports
from banger.settings import SYSTEM_FILE, Settings, sources
from banger.system import code, manifest, systemd
from banger.system.plan import InstallPlan
from banger.system.planning import HOST_SETTINGS, install_plan


class Intent(NamedTuple):
    """What an installation is made from, asked for and kept from before."""

    settings: Settings
    credentials: passwords.Credentials
    own_redis: bool
    owner: pwd.struct_passwd | None
    disk_backend: str
    names: bool

    def plan(self, keys: tuple[TicketKey, ...]) -> InstallPlan:
        """Return the plan; ``keys`` are the ones whose tickets root shall open."""
        return install_plan(
            self.settings,
            self.credentials,
            keys,
            own_redis=self.own_redis,
            disk_backend=self.disk_backend,
            names=self.names,
        )


def intent(settings: Settings) -> Intent:
    """Return what to install; BangerError where it must not be. Asks, and changes nothing."""
    systemd.require()
    _require_usable(settings)
    code.require_trusted()
    before = manifest.load(settings)
    installed = before is not None and bool(before.services)
    kept = passwords.load(settings.farm_file)
    if before and installed and settings.redis_url is None:
        settings = settings.model_copy(update={"redis_url": before.redis_url})
    known = Ports(kept.redis_port, kept.flower_port) if kept else Ports(0, 0)
    ports = Ports(settings.redis_port or known.redis, settings.flower_port or known.flower)
    if not (installed and all(ports)):  # else what listens there is this installation
        ports = choose_ports(settings, known)
    if before and settings.owner is None:
        settings = settings.model_copy(update={"owner": before.owner or "root"})
    owner = owner_of(settings)
    settings = settings.model_copy(update={"owner": owner.pw_name if owner else "root"})
    made = passwords.decide(settings, kept, ports)
    backend = disk_backend.resolved(settings).disk_backend
    names = name_server.resolved(settings).names
    return Intent(settings, made, settings.redis_url is None, owner, backend, names)


def _require_usable(settings: Settings) -> None:
    paths = {"state_dir": settings.state_dir, "run_dir": settings.run_dir}
    if settings.redis_ca:
        paths["redis_ca"] = settings.redis_ca
    for name, path in paths.items():
        if not path.is_absolute() or ".." in path.parts:
            raise InvalidInputError(f"{name} must be an absolute path: {path}")
        if hidden := next((place for place in code.HIDDEN if path.is_relative_to(place)), None):
            raise InvalidInputError(
                f"{name} cannot lie in {hidden}: {path}", details="the services have another one, or none"
            )
        if not path.parent.is_dir():
            raise InvalidInputError(f"{path.parent} does not exist", resolution=f"mkdir -p {path.parent}")
    if holder(farm_paths(settings).lock_file) is not None:
        raise ConflictError(
            "a farm runs here already, without systemd", resolution="`sudo banger farm down` stops it."
        )
    if SYSTEM_FILE.exists():
        foreign = [
            f"{name}: {value} (from {origin})"
            for name, (value, origin) in sources(settings).items()
            if name in HOST_SETTINGS and origin not in ("default", str(SYSTEM_FILE))
        ]
        if foreign:
            raise InvalidInputError(
                f"services read their settings from {SYSTEM_FILE} alone",
                details="\n".join(foreign),
                resolution=f"Set these there, then install again; {SYSTEM_FILE} itself is never changed.",
            )
