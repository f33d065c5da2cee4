"""Install: carry the plan out, remember what was made, and have systemd start it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from banger import __version__, ticket_keys
from banger.embedded.account import worker_account
from banger.embedded.layout import ensure_host_id, ensure_ssh_key
from banger.embedded.owner import hand_over
from banger.embedded.paths import farm_paths
from banger.settings import SYSTEM_FILE, Settings
from banger.system import applying, manifest, places, systemd
from banger.system.applying import Applied, Done
from banger.system.intent import Intent, intent
from banger.system.manifest import MadeDirectory, MadeFile, MadeUser, Manifest
from banger.system.plan import InstallPlan


def install(settings: Settings) -> Iterator[Done]:
    """Install, or mend an installation, and start it; yield what is done. May be repeated.

    A farm's own Redis unless ``settings`` name one, or the installation had another before. BangerError,
    with nothing changed, where the host or the way banger lies on it will not do. Whatever else goes wrong,
    what was made by then is remembered.
    """
    what = intent(settings)
    before = manifest.load(what.settings)
    applied: list[Applied] = []
    whole = False
    try:
        yield from _make(what, before, applied)
        whole = True
    finally:
        _remember(what, before, [step.entry for step in applied], whole=whole)
    upgraded = before is not None and before.version != __version__
    services = what.plan(()).services
    yield from _start(what.settings, services, [step.done for step in applied], upgraded=upgraded)


def _make(what: Intent, before: Manifest | None, applied: list[Applied]) -> Iterator[Done]:
    settings = what.settings
    for step in _made_places(what.plan(())):
        applied.append(step)
        yield step.done
    account = worker_account(settings)
    policy = farm_paths(settings).policy
    keys = ticket_keys.ensure(settings.paths, policy, account.pw_uid, account.pw_gid)
    ensure_host_id(settings)
    ensure_ssh_key(settings)
    wanted = what.plan(keys)
    for file in wanted.files:
        applied.append(applying.write(file))
        yield applied[-1].done
    hand_over(settings, what.credentials)
    yield from _forget_stale(before, wanted)


def _made_places(wanted: InstallPlan) -> Iterator[Applied]:
    for user in wanted.users:
        yield applying.make_user(user)
    for directory in wanted.directories:
        yield applying.make(directory)


def _forget_stale(before: Manifest | None, wanted: InstallPlan) -> Iterator[Done]:
    """Stop and remove what an earlier installation needed and this one does not."""
    if before is None:
        return
    gone = [name for name in before.services if name not in wanted.services]
    if gone:
        systemd.systemctl("stop", *gone, forgive=True)
    paths = {file.path for file in wanted.files}
    for entry in before.files:
        if entry.made and not entry.kept and entry.path not in paths:
            yield applying.remove_file(entry.path)


def _remember(
    what: Intent,
    before: Manifest | None,
    entries: Iterable[MadeUser | MadeDirectory | MadeFile],
    *,
    whole: bool,
) -> None:
    """Write the manifest: what an earlier installation made is still ours to remove."""
    if not what.settings.state_dir.is_dir():
        return  # it went wrong at the very beginning
    ours = {_name(entry) for entry in _entries(before) if entry.made}
    now = [entry.model_copy(update={"made": entry.made or _name(entry) in ours}) for entry in entries]
    names = {_name(entry) for entry in now}
    older = [
        entry
        for entry in _entries(before)
        if _name(entry) not in names and entry.made and not (whole and isinstance(entry, MadeFile))
    ]
    everything = [*now, *older]
    owner = what.owner
    manifest.save(
        what.settings,
        Manifest(
            version=__version__ if whole or before is None else before.version,
            installed_at=datetime.now(UTC),
            owner=owner.pw_name if owner else None,
            uid=owner.pw_uid if owner else None,
            gid=owner.pw_gid if owner else None,
            redis_url=what.settings.redis_url,
            services=what.plan(()).services if whole else before.services if before else (),
            users=tuple(entry for entry in everything if isinstance(entry, MadeUser)),
            directories=tuple(entry for entry in everything if isinstance(entry, MadeDirectory)),
            files=tuple(entry for entry in everything if isinstance(entry, MadeFile)),
        ),
    )


def _entries(found: Manifest | None) -> tuple[MadeUser | MadeDirectory | MadeFile, ...]:
    return (*found.users, *found.directories, *found.files) if found else ()


def _name(entry: MadeUser | MadeDirectory | MadeFile) -> str:
    return entry.name if isinstance(entry, MadeUser) else str(entry.path)


def _start(
    settings: Settings, services: tuple[str, ...], done: Iterable[Done], *, upgraded: bool
) -> Iterator[Done]:
    """Have systemd read and start the units; what reads something that changed is restarted."""
    changed = {Path(one.name) for one in done if one.kind == "file" and one.what in ("made", "changed")}
    if any(path.parent == places.UNITS for path in changed):
        systemd.systemctl("daemon-reload")
    systemd.systemctl("enable", "--quiet", places.TARGET)
    stale = [name for name in services if upgraded or changed & _read_by(settings, name)]
    if stale:
        systemd.systemctl("restart", *stale)
    systemd.systemctl("start", places.TARGET, *services)
    systemd.require_running([name for name in services if name != places.DNS])  # doctor tells of that one
    for name in services:
        yield Done("service", name, "started" if name in stale else "unchanged")


def _read_by(settings: Settings, service: str) -> set[Path]:
    """Return the files that a service, or systemd for it, reads when it starts."""
    farm = farm_paths(settings)
    own = {places.REDIS: {farm.redis_config, farm.redis_acl}, places.ROOT_WORKER: {farm.policy}}
    return {places.UNITS / service, places.environment_file(service), SYSTEM_FILE} | own.get(service, set())
