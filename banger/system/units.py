"""The units as text: what each service runs, after whom, with which secrets, and what it may not do. Pure."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from banger.embedded import udev
from banger.embedded.credentials import Credentials
from banger.embedded.layout import directories
from banger.embedded.paths import farm_paths
from banger.embedded.services import (
    DNS_STOP_S,
    FLOWER_STOP_S,
    REDIS_STOP_S,
    WORKER_STOP_S,
    flower_argv,
    redis_argv,
    redis_mending_argv,
    root_worker_argv,
    worker_argv,
)
from banger.name_server import name_server_argv
from banger.settings import Settings
from banger.shell import ENVIRONMENT, find_tool
from banger.system import hardening, places
from banger.system.hardening import Setting

REDIS_USER = "banger-redis"
FLOWER_USER = "banger-flower"
DNS_USER = "banger-dns"

UDEVADM = Path("/usr/bin/udevadm")
DRIVERS = ("tun", "loop", "dm-mod", "dm-snapshot")
MORE_TO_STOP_S = 4  # than the supervisor gives: systemd has nothing else to wait for
_DESCRIPTORS = 65_536
# Which it calls whatever it is asked; without a capability there is none to be set.
_SETPRIV = Setting("SystemCallFilter", "capset", "setpriv, by which tools die with who started them")


class Unit(NamedTuple):
    """A unit's name and text."""

    name: str
    text: str


def units(settings: Settings, credentials: Credentials, *, own_redis: bool) -> tuple[Unit, ...]:
    """Return all units; the target is the first, services follow in starting order."""
    redis = (_redis(settings),) if own_redis else ()
    near = _redis_addresses(credentials.redis_url)
    services = (
        *redis,
        _network(settings),
        _worker(settings, near, own_redis=own_redis),
        _root_worker(settings, near, own_redis=own_redis),
        _flower(credentials, near, own_redis=own_redis),
        *((_dns(settings),) if settings.names else ()),
    )
    return (_target(unit.name for unit in services), *services)


def _target(names: Iterable[str]) -> Unit:
    text = _sections(
        ("Unit", [("Description", "banger: a worker farm for microVMs"), ("Wants", " ".join(names))]),
        ("Install", [("WantedBy", "multi-user.target")]),
    )
    return Unit(places.TARGET, text)


def _redis(settings: Settings) -> Unit:
    paths = farm_paths(settings)
    return _service(
        places.REDIS,
        "banger: Redis, which carries the work and remembers the VMs",
        # Ready when it has loaded what it remembers: whoever comes after can ask it at once.
        (*redis_argv(settings), "--supervised", "systemd"),
        kind="notify",
        before=redis_mending_argv(settings),
        user=REDIS_USER,
        stop_s=REDIS_STOP_S,
        secrets=False,
        settings=(
            *hardening.unprivileged(
                writable=(paths.redis, paths.redis_socket.parent), addresses=("localhost",)
            ),
            _SETPRIV,
        ),
    )


def _network(settings: Settings) -> Unit:
    prepare = (sys.executable, "-m", "banger.system.preparation")
    # Not part of the target: who stops that leaves the guests' network as it is.
    head = [
        ("Description", "banger: the guests' bridge and rules, and whether KVM works here"),
        ("After", "systemd-resolved.service"),  # which is told of the bridge, where it runs at all
    ]
    body = [
        ("Type", "oneshot"),
        ("RemainAfterExit", "yes"),
        # DeviceAllow of the root worker knows drivers that are there by then; "+": outside this sandbox.
        ("ExecStartPre", command_line((f"-+{find_tool('modprobe')}", "--all", "--quiet", *DRIVERS))),
        # At boot udev may still be loading KVM's driver, and giving its device to its group.
        *((("ExecStartPre", f"-+{UDEVADM} settle --timeout=60"),) if UDEVADM.exists() else ()),
        ("ExecStart", command_line((*prepare, "up"))),
        ("ExecStop", command_line((*prepare, "down"))),
        ("Environment", f"BANGER_NAMES={str(settings.names).lower()}"),  # to tell resolved of, or not
        *_environment(places.NETWORK, secrets=False),
        *_lines(hardening.preparation(writable=(settings.run_dir, udev.UDEV))),
    ]
    return Unit(places.NETWORK, _sections(("Unit", head), ("Service", body)))


def _worker(settings: Settings, near: Sequence[str], *, own_redis: bool) -> Unit:
    own = [
        path
        for path, owner, _ in directories(settings)
        if owner == settings.worker_user and path.is_relative_to(settings.state_dir)
    ]
    redis = farm_paths(settings).redis
    addresses = (*near, str(settings.network)) if near else ()
    return _service(
        places.WORKER,
        "banger: the unprivileged worker",
        worker_argv(settings),
        user=settings.worker_user,
        stop_s=WORKER_STOP_S,
        own_redis=own_redis,
        settings=(
            *hardening.unprivileged(
                writable=[
                    *(path for path in own if path not in (redis, settings.paths.keys)),
                    settings.paths.spool,
                ],
                addresses=addresses,
            ),
            # Celery lets what runs come to its end; what is left then, an ssh to a guest perhaps, is killed.
            Setting("KillMode", "mixed", "commands in guests are not ended by the first signal"),
            _SETPRIV,
        ),
        # The rest it reads from the configuration; these are decided here, by what there is.
        environment=(
            ("BANGER_DISK_BACKEND", settings.disk_backend),
            ("BANGER_NAMES", str(settings.names).lower()),
        ),
    )


def _root_worker(settings: Settings, near: Sequence[str], *, own_redis: bool) -> Unit:
    return _service(
        places.ROOT_WORKER,
        "banger: the root worker",
        root_worker_argv(settings),
        user="root",
        stop_s=WORKER_STOP_S,
        own_redis=own_redis,
        after=(places.NETWORK,),
        settings=hardening.root(writable=(settings.state_dir, settings.run_dir), addresses=near),
        environment=(("BANGER_POLICY", str(farm_paths(settings).policy)), ("BANGER_VM_UNITS", "yes")),
    )


def _flower(credentials: Credentials, near: Sequence[str], *, own_redis: bool) -> Unit:
    return _service(
        places.FLOWER,
        "banger: Flower, which shows the tasks",
        flower_argv(credentials),
        user=FLOWER_USER,
        stop_s=FLOWER_STOP_S,
        own_redis=own_redis,
        settings=hardening.unprivileged(writable=(), addresses=near),
    )


def _dns(settings: Settings) -> Unit:
    return _service(
        places.DNS,
        "banger: the name server, which knows the VMs",
        name_server_argv(settings),
        user=DNS_USER,
        stop_s=DNS_STOP_S,
        after=(places.NETWORK,),
        settings=hardening.name_server(addresses=(str(settings.network),)),
        secrets=False,
        restart_s=10,  # who has port 53 may have it for good
    )


def _service(
    name: str,
    description: str,
    argv: tuple[str, ...],
    *,
    user: str,
    stop_s: int,
    settings: Iterable[Setting],
    kind: str = "exec",
    before: tuple[str, ...] = (),
    own_redis: bool = False,
    after: tuple[str, ...] = (),
    environment: tuple[tuple[str, str], ...] = (),
    secrets: bool = True,
    restart_s: int = 2,
) -> Unit:
    needs = (*((places.REDIS,) if own_redis else ()), *after)
    head = [
        ("Description", description),
        ("PartOf", places.TARGET),
        *([("Wants", " ".join(needs))] if needs else []),
        ("After", " ".join((*needs, "network.target"))),
        ("StartLimitIntervalSec", "0"),  # what cannot start yet is tried for ever, seconds apart
    ]
    body = [
        ("Type", kind),
        ("User", user),
        ("Group", user),
        *([("ExecStartPre", command_line(before))] if before else []),
        ("ExecStart", command_line(argv)),
        *_environment(name, secrets=secrets),
        *(("Environment", f"{key}={value}") for key, value in environment),
        ("WorkingDirectory", "/"),
        ("Restart", "on-failure"),
        ("RestartSec", str(restart_s)),
        ("TimeoutStopSec", str(stop_s + MORE_TO_STOP_S)),
        ("LimitNOFILE", str(_DESCRIPTORS)),
        *_lines(settings),
    ]
    return Unit(name, _sections(("Unit", head), ("Service", body)))


def _environment(name: str, *, secrets: bool) -> Iterable[tuple[str, str]]:
    values = {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
    yield from (("Environment", f"{key}={value}") for key, value in values.items())
    if secrets:
        yield "EnvironmentFile", str(places.environment_file(name))


def command_line(argv: Sequence[str]) -> str:
    """Return an argv as ExecStart spells it: no specifier and no variable is expanded in it."""
    words = (
        word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") for word in argv
    )
    return " ".join(f'"{word}"' if any(sign in word for sign in " \t;'\"\\") else word for word in words)


def environment_text(values: dict[str, str]) -> str:
    """Return variables as an EnvironmentFile spells them."""
    escaped = str.maketrans({sign: f"\\{sign}" for sign in '\\"$`'})
    return "".join(f'{name}="{value.translate(escaped)}"\n' for name, value in values.items())


def _redis_addresses(url: str) -> tuple[str, ...]:
    """Return what must be reached for Redis; nothing, and so no filter, where it is a name of elsewhere."""
    host = urlsplit(url).hostname or "localhost"
    if host == "localhost":
        return ("localhost",)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ()
    return ("localhost",) if address.is_loopback else ("localhost", str(address))


def _lines(settings: Iterable[Setting]) -> Iterable[tuple[str, str]]:
    return ((setting.name, setting.value) for setting in settings)


def _sections(*sections: tuple[str, Sequence[tuple[str, str]]]) -> str:
    written = (
        "\n".join((f"[{name}]", *(f"{key}={value}" for key, value in lines))) for name, lines in sections
    )
    return (
        "# Made by `banger system install`. Changes are undone by the next; use `systemctl edit` instead.\n"
        + ("\n\n".join(written) + "\n")
    )
