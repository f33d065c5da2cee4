"""Uninstall: stop the services and remove what was made here, that and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from banger.contracts.errors import ConflictError
from banger.contracts.names import SLICE
from banger.embedded import vm_cgroups
from banger.embedded.paths import farm_paths
from banger.settings import Settings
from banger.system import applying, drift, manifest, places, systemd
from banger.system.applying import Done
from banger.system.manifest import MadeFile, Manifest
from banger.system.running_vms import running_vms


def uninstall(settings: Settings, *, purge: bool, force: bool) -> Iterator[Done]:
    """Stop the services and remove what ``install`` made; with ``purge`` also state, configuration and users.

    ConflictError while VMs run: with ``force`` they are left to run, but never purged from under.
    """
    found = manifest.load(settings)
    if found is None or not (found.services or purge):
        raise manifest.nothing_installed()
    _require_no_vms(settings, purge=purge, force=force)
    if found.services:
        systemd.require()
        systemd.systemctl("disable", "--now", places.TARGET, forgive=True)
        systemd.systemctl("stop", *found.services, forgive=True)
        yield from (Done("service", name, "stopped") for name in found.services)
        _require_no_vms(settings, purge=purge, force=force)  # one may have come, until the workers were gone
    left: list[MadeFile] = []
    for entry in found.files:
        if _stays(settings, entry, purge=purge):
            left.append(entry)
        elif not purge and _was_changed(entry):
            left.append(entry)
            yield Done("file", str(entry.path), "kept: it was changed since it was made")
        else:
            yield applying.remove_file(entry.path)
    if found.services:
        systemd.systemctl("daemon-reload")
        systemd.systemctl("reset-failed", "banger-*", forgive=True)
        if not running_vms(settings):  # it would end them; and it stays when the last VM's unit has gone
            systemd.systemctl("stop", SLICE, forgive=True)
        vm_cgroups.remove_if_empty(settings.paths)
    if purge:
        yield from _purge(settings, found)
    else:
        rest = found.model_copy(update={"services": (), "files": tuple(left)})
        manifest.save(settings, rest)


def _require_no_vms(settings: Settings, *, purge: bool, force: bool) -> None:
    running = running_vms(settings)
    if running and (purge or not force):
        raise ConflictError(
            f"{len(running)} VMs run here: {', '.join(running[:5])}{', …' if len(running) > 5 else ''}",
            details="their disks would be removed under them" if purge else "nobody would look after them",
            resolution="Delete them first: `banger vm delete`."
            if purge
            else "Stop or delete them first, or leave them running with --force.",
        )


def _stays(settings: Settings, entry: MadeFile, *, purge: bool) -> bool:
    return not entry.made or (not purge and (entry.kept or entry.path.is_relative_to(settings.state_dir)))


def _was_changed(entry: MadeFile) -> bool:
    seen = drift.look_at(entry.path) if entry.sha256 else None
    return seen is not None and seen.sha256 != entry.sha256


def _purge(settings: Settings, found: Manifest) -> Iterator[Done]:
    farm_paths(settings).installation.unlink(missing_ok=True)
    for one in (settings.paths.ticket_key, settings.paths.host_id, settings.paths.accelerator):
        one.unlink(missing_ok=True)
    yield from applying.remove_directories(found.directories, (settings.state_dir, settings.run_dir))
    for user in found.users:
        if user.made:
            yield applying.remove_user(user)
