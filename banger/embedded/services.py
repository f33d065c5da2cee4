"""What an embedded farm runs, as values: name, argv, environment, log, readiness, and how it is stopped."""

from __future__ import annotations

import json
import sys

from banger.contracts.broker import Role
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.embedded.account import as_nobody, as_user
from banger.embedded.credentials import Credentials
from banger.embedded.paths import farm_paths
from banger.embedded.plan import Plan, Service
from banger.embedded.view import Cover, covered_argv
from banger.embedded.vmm_root import rooted_argv
from banger.name_server import PORT, gateway, name_server_argv
from banger.settings import Settings
from banger.shell import ENVIRONMENT, find_tool

ROOT_THREADS = 4  # root's stages are short, and many of them wait for one lock a host anyway
FLOWER_MAX_TASKS = 20_000  # 6 KB each in Flower's memory

# Stopping takes 18 s at worst: workers together, then Flower, then Redis.
WORKER_STOP_S = 11
FLOWER_STOP_S = 3
DNS_STOP_S = 2
REDIS_STOP_S = 4


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return the settings as ``BANGER_*`` variables: how a service learns what ``up`` was told.

    Not the files of whoever typed ``up``: those are that person's own.
    """
    values = settings.model_dump(
        mode="json", exclude_none=True, exclude={"redis_url", "redis_ca", "file_sync"}
    )
    return {
        f"BANGER_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


def farm_plan(settings: Settings, credentials: Credentials, covers: tuple[Cover, ...]) -> Plan:
    """Return all that this farm runs, in starting order. No Redis where one is configured.

    ``names`` in the settings says whether there is a dnsmasq to be run.
    """
    embedded = settings.redis_url is None
    services = (
        *((_redis(settings, credentials, covers),) if embedded else ()),
        _worker(settings, credentials, covers),
        _root_worker(settings, credentials),
        _flower(settings, credentials, covers),
        *((_dns(settings, covers),) if settings.names else ()),
    )
    paths = farm_paths(settings)
    return Plan(
        services=services,
        stop_order=(
            ("worker", "root-worker"),
            ("flower", *(("dns",) if settings.names else ())),
            *((("redis",),) if embedded else ()),
        ),
        lock_file=paths.lock_file,
        status_file=paths.status_file,
        log=paths.log("supervisor"),
    )


def _redis(settings: Settings, credentials: Credentials, covers: tuple[Cover, ...]) -> Service:
    argv = (*redis_mending_argv(settings), *redis_argv(settings))
    return Service(
        name="redis",
        argv=covered_argv(as_user(settings.worker_user, argv), covers, farm_paths(settings).staging),
        env=ENVIRONMENT,
        user=settings.worker_user,
        log=farm_paths(settings).log("redis"),
        serves=f"redis://127.0.0.1:{credentials.redis_port}",
        ready_line="Ready to accept connections",
        stop_s=REDIS_STOP_S,
    )


def _worker(settings: Settings, credentials: Credentials, covers: tuple[Cover, ...]) -> Service:
    argv = worker_argv(settings)
    return Service(
        name="worker",
        argv=covered_argv(as_user(settings.worker_user, argv), covers, farm_paths(settings).staging),
        env=_environment(credentials, "worker") | settings_environment(settings),
        user=settings.worker_user,
        log=farm_paths(settings).log("worker"),
        serves=_work_queues(settings),
        ready_line=f"work@{settings.host} ready.",
        needs=_needs(settings),
        stop_s=WORKER_STOP_S,
    )


def _root_worker(settings: Settings, credentials: Credentials) -> Service:
    return Service(
        name="root-worker",
        argv=as_user("root", root_worker_argv(settings)),
        env=_environment(credentials, "root") | {"BANGER_POLICY": str(farm_paths(settings).policy)},
        user="root",
        log=farm_paths(settings).log("root-worker"),
        serves=root_queue(settings.host),
        ready_line=f"root@{settings.host} ready.",
        needs=_needs(settings),
        stop_s=WORKER_STOP_S,
    )


def _flower(settings: Settings, credentials: Credentials, covers: tuple[Cover, ...]) -> Service:
    argv = flower_argv(credentials)
    password = {"FLOWER_BASIC_AUTH": f"{credentials.flower_user}:{credentials.flower_password}"}
    return Service(
        name="flower",
        argv=covered_argv(as_user(settings.worker_user, argv), covers, farm_paths(settings).staging),
        env=_environment(credentials, "flower") | settings_environment(settings) | password,
        user=settings.worker_user,
        log=farm_paths(settings).log("flower"),
        serves=credentials.flower_url,
        ready_line="Visit me at",
        needs=_needs(settings),
        stop_s=FLOWER_STOP_S,
    )


def _dns(settings: Settings, covers: tuple[Cover, ...]) -> Service:
    """Return the name server. Guests send it what they like: it runs as nobody, and reads names alone."""
    argv = as_nobody("net_bind_service", name_server_argv(settings))
    return Service(
        name="dns",
        argv=covered_argv(argv, covers, farm_paths(settings).staging),
        env=ENVIRONMENT,
        user="nobody",
        log=farm_paths(settings).log("dns"),
        serves=f"{gateway(settings)}:{PORT}",
        ready_line=": started, version",
        stop_s=DNS_STOP_S,
        optional=True,
    )


def redis_argv(settings: Settings) -> tuple[str, ...]:
    """Return what runs the farm's own Redis."""
    return (find_tool("redis-server"), str(farm_paths(settings).redis_config))


def redis_mending_argv(settings: Settings) -> tuple[str, ...]:
    """Return what mends the files of the farm's own Redis, and then becomes what is appended, if anything."""
    return (sys.executable, "-m", "banger.embedded.redis_server", str(farm_paths(settings).redis))


def worker_argv(settings: Settings) -> tuple[str, ...]:
    """Return what runs the unprivileged worker."""
    node = f"work@{settings.host}"
    return _celery_worker("workers.app", node, _work_queues(settings), settings.worker_threads)


def root_worker_argv(settings: Settings) -> tuple[str, ...]:
    """Return what runs the root worker, beside the VMMs' root directory."""
    node, queue = f"root@{settings.host}", root_queue(settings.host)
    return rooted_argv(_celery_worker("root_worker.app", node, queue, ROOT_THREADS), settings)


def flower_argv(credentials: Credentials) -> tuple[str, ...]:
    """Return what runs Flower, on loopback alone."""
    return (
        *(sys.executable, "-m", "celery", "-A", "banger.embedded.flower_app", "flower"),
        *("--address=127.0.0.1", f"--port={credentials.flower_port}"),
        *("--read-only", "--enable-events=False", f"--max-tasks={FLOWER_MAX_TASKS}"),
    )


def _work_queues(settings: Settings) -> str:
    return f"{work_queue(settings.host)},{CONTROL}"


def _celery_worker(app: str, node: str, queues: str, threads: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "celery", "-A", app, "--quiet", "worker"),
        *("--hostname", node, "--queues", queues, "--loglevel", "INFO"),
        *("--pool", "threads", "--concurrency", str(threads)),
        *("--without-gossip", "--without-mingle"),
    )


def _environment(credentials: Credentials, role: Role) -> dict[str, str]:
    return ENVIRONMENT | {"BANGER_REDIS_URL": credentials.url(role), "PYTHONUNBUFFERED": "1"}


def _needs(settings: Settings) -> tuple[str, ...]:
    return ("redis",) if settings.redis_url is None else ()
