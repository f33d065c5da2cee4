"""The verbs of an installation, as the CLI calls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from banger import ticket_keys
from banger.embedded.paths import farm_paths
from banger.privilege import require_root
from banger.settings import Settings
from banger.system import drift, installing, manifest, systemd, uninstalling
from banger.system.applying import Done
from banger.system.drift import Drift
from banger.system.intent import intent
from banger.system.manifest import Manifest
from banger.system.plan import InstallPlan
from banger.system.systemd import UnitState


class Status(NamedTuple):
    """An installation as it is now. ``loosened``: units that an administrator has changed by right."""

    manifest: Manifest
    units: tuple[UnitState, ...]
    drift: tuple[Drift, ...]
    loosened: tuple[Drift, ...]


def plan(settings: Settings) -> InstallPlan:
    """Return what ``install`` would do. Needs root, which alone may read the passwords that are kept."""
    require_root("install the farm's services")
    return intent(settings).plan(ticket_keys.kept(farm_paths(settings).policy))


def install(settings: Settings) -> Iterator[Done]:
    """Install, or mend an installation, and start it; yield what is done. May be repeated.

    The farm has a Redis of its own unless ``settings`` name one, or the installation had another before.
    BangerError, with nothing changed, where the host or the way banger lies on it will not do.
    """
    require_root("install the farm's services")
    yield from installing.install(settings)


def status(settings: Settings) -> Status:
    """Return the installation as it is; NotFoundError where there is none."""
    found = manifest.installed(settings)
    units = systemd.states(found.services)
    differences = drift.drifts(found, drift.look(found), units, drift.missing_users(found))
    return Status(found, units, differences, drift.loosened(units))


def restart(settings: Settings) -> tuple[UnitState, ...]:
    """Restart the services and return their units; the VMs go on, and so does a network that they use."""
    require_root("restart the farm's services")
    systemd.require()
    units = manifest.installed(settings).services
    systemd.systemctl("restart", *units)
    return systemd.require_running(units)


def uninstall(settings: Settings, *, purge: bool, force: bool) -> Iterator[Done]:
    """Stop the services and remove what ``install`` made; with ``purge`` also state, configuration and users.

    ConflictError while VMs run: with ``force`` they are left to run, but never purged from under.
    """
    require_root("uninstall the farm")
    yield from uninstalling.uninstall(settings, purge=purge, force=force)
