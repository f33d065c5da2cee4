"""From settings to all that an installation consists of. Pure: the host is neither asked nor changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from banger.contracts.tickets import TicketKey
from banger.embedded.credentials import Credentials
from banger.embedded.layout import directories, policy
from banger.embedded.paths import farm_paths
from banger.embedded.redis import acl_file, redis_config
from banger.settings import SYSTEM_FILE, Settings
from banger.system import places
from banger.system.plan import Directory, File, InstallPlan, User
from banger.system.units import DNS_USER, FLOWER_USER, REDIS_USER, environment_text, units

# What services and root's policy are made from. The rest is a matter of who asks for VMs.
HOST_SETTINGS = (
    *("host", "owner", "state_dir", "run_dir", "worker_user", "redis_port", "flower_port", "network"),
    *("names", "uid_base", "redis_ca", "disk_backend", "accelerator", "serial_log_mib"),
    *("worker_threads", "vmm", "firecracker", "jailer"),
)


def install_plan(
    settings: Settings,
    credentials: Credentials,
    keys: Sequence[TicketKey],
    *,
    own_redis: bool,
    disk_backend: str,
    names: bool,
) -> InstallPlan:
    """Return the plan. ``keys`` are the ones whose tickets root shall open, the rest is what works here.

    The owner in the settings is a user's name.
    """
    concrete = settings.model_copy(update={"disk_backend": disk_backend, "names": names})
    made = units(concrete, credentials, own_redis=own_redis)
    return InstallPlan(
        users=tuple(_users(concrete, own_redis=own_redis)),
        directories=tuple(_directories(settings, own_redis=own_redis)),
        files=(
            File(SYSTEM_FILE, "root", "root", 0o644, config_text(settings), kept=True),
            *_secrets(settings, credentials),
            *(_redis_files(settings, credentials) if own_redis else ()),
            File(
                farm_paths(settings).policy,
                *("root", "root", 0o644),
                policy(concrete, keys).model_dump_json(indent=2),
                grows=True,
            ),
            File(places.TMPFILES, "root", "root", 0o644, _tmpfiles(settings, own_redis=own_redis)),
            *(File(places.UNITS / unit.name, "root", "root", 0o644, unit.text) for unit in made),
        ),
        services=tuple(unit.name for unit in made if unit.name != places.TARGET),
    )


def _users(settings: Settings, *, own_redis: bool) -> Iterable[User]:
    yield User(settings.worker_user, "the unprivileged worker, which alone seals root's tickets")
    if own_redis:
        yield User(REDIS_USER, "Redis, which reads no key and no disk")
    yield User(FLOWER_USER, "Flower, which reads nothing")
    if settings.names:
        yield User(DNS_USER, "the name server, which guests talk to")


def _directories(settings: Settings, *, own_redis: bool) -> Iterable[Directory]:
    farm = farm_paths(settings)
    supervisors = (farm.logs, farm.control, farm.staging)  # systemd's journal and cgroups take their place
    of_redis = (farm.redis, farm.redis_socket.parent)
    yield Directory(places.ETC, "root", 0o755)
    yield Directory(places.CREDENTIALS, "root", 0o700)
    for path, owner, mode in directories(settings):
        if path in of_redis and own_redis:
            yield Directory(path, REDIS_USER, mode)
        elif path not in (*supervisors, *of_redis):
            yield Directory(path, owner, mode)


def _secrets(settings: Settings, credentials: Credentials) -> Iterable[File]:
    """Yield one file a reader: systemd for each service, and root's own CLI."""
    flower = {"FLOWER_BASIC_AUTH": f"{credentials.flower_user}:{credentials.flower_password}"}
    of_services: tuple[tuple[str, dict[str, str]], ...] = (
        (places.WORKER, {"BANGER_REDIS_URL": credentials.url("worker")}),
        (places.ROOT_WORKER, {"BANGER_REDIS_URL": credentials.url("root")}),
        (places.FLOWER, {"BANGER_REDIS_URL": credentials.url("flower")} | flower),
    )
    for unit, values in of_services:
        file = places.environment_file(unit)
        yield File(file, "root", "root", 0o600, environment_text(values), secret=True)
    text = credentials.model_dump_json(indent=2)
    yield File(settings.farm_file, "root", "root", 0o600, text, secret=True)


def _redis_files(settings: Settings, credentials: Credentials) -> Iterable[File]:
    farm = farm_paths(settings)
    config = redis_config(
        directory=farm.redis, socket=farm.redis_socket, port=credentials.redis_port, acl=farm.redis_acl
    )
    yield File(farm.redis_acl, "root", REDIS_USER, 0o640, acl_file(credentials), secret=True)
    yield File(farm.redis_config, "root", REDIS_USER, 0o640, config)


def config_text(settings: Settings) -> str:
    """Return a configuration file that says what differs from the defaults, and always whose host this is.

    Its queues carry the host's name: they must not change when the machine is renamed.
    """
    values = settings.model_dump(mode="json")
    defaults = Settings.model_construct().model_dump(mode="json")
    lines = [
        f"{name} = {json.dumps(values[name])}"
        for name in HOST_SETTINGS
        if name in ("host", "owner") or values[name] != defaults[name]
    ]
    head = (
        "# banger's configuration: `banger config show` lists what can be set.\n"
        "# What services are made from takes effect with `sudo banger system install`.\n"
    )
    return head + "\n".join(lines) + "\n"


def _tmpfiles(settings: Settings, *, own_redis: bool) -> str:
    """Return what makes the run directories again after a reboot, before any service starts."""
    lines = [
        f"d {directory.path} {directory.mode:04o} {directory.owner} {directory.owner} -"
        for directory in _directories(settings, own_redis=own_redis)
        if directory.path.is_relative_to(settings.run_dir)
    ]
    spool = f"d {settings.paths.spool} 2770 {settings.owner or 'root'} {settings.worker_user} -"
    lines.append(spool)
    return "# Made by `banger system install`.\n" + "\n".join(lines) + "\n"
