"""The farm's verbs, as the CLI calls them: up, status, down; ``logs`` is beside."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from banger import disk_backend, name_server
from banger.accelerator import probe
from banger.connection import connect
from banger.contracts.errors import BangerError, ConflictError, UnavailableError
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.contracts.seat import refused
from banger.embedded import credentials, layout, owner, udev, vm_cgroups
from banger.embedded import logs as log_files
from banger.embedded.account import worker_account
from banger.embedded.lock import holder
from banger.embedded.logs import LogLine
from banger.embedded.paths import farm_paths
from banger.embedded.plan import FarmStatus, Plan, ServiceStatus
from banger.embedded.services import farm_plan
from banger.embedded.supervisor import supervise
from banger.embedded.view import Cover, code_paths, may_enter, plan_covers
from banger.privilege import require_root
from banger.records import Records
from banger.settings import Settings
from banger.shell import run

__all__ = ["LogLine", "down", "logs", "status", "up"]

UP_DEADLINE_S = 60.0
SERVED_DEADLINE_S = 5.0
SEAT_DEADLINE_S = 20.0  # after a reboot the seat is free in 12
DOWN_DEADLINE_S = 20.0
MAX_FAILED_STARTS = 2
POLL_S = 0.05


def _quiet(_text: str) -> None:
    return


def up(
    settings: Settings, *, foreground: bool = False, progress: Callable[[str], None] = _quiet
) -> FarmStatus:
    """Start the farm unless it runs, and return it running; in the foreground, return when it has ended.

    ``progress`` is called with each service's change of state, in words. BangerError with the
    service's last words when one cannot start; the farm is stopped again then.
    """
    require_root("start a farm")
    _require_not_systemds(settings)
    from banger.embedded import network  # here and in ``_put_away``: its library takes 0.3 s to import

    with _one_at_a_time(settings):
        if holder(farm_paths(settings).lock_file) is not None:
            layout.write_policy(settings)
            layout.ensure_host_id(settings)
            udev.ensure(settings)
            network.ensure(settings)
            return _served(settings, _wait_until_ready(settings, progress))
        # A supervisor that was killed has left what it said last, and its services died with it.
        farm_paths(settings).status_file.unlink(missing_ok=True)
        plan = _prepare(settings)
        udev.ensure(settings)
        network.ensure(settings)
        if not foreground:
            run(
                (sys.executable, "-m", "banger.embedded.supervisor"),
                stdin=plan.model_dump_json().encode(),
                deadline_s=UP_DEADLINE_S,
            )
            return _served(settings, _wait_until_ready(settings, progress))
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    supervise(plan)
    _put_away(settings)
    return status(settings)


def status(settings: Settings) -> FarmStatus:
    """Return the farm as it is now; without a supervisor, no service runs."""
    _require_not_systemds(settings)
    paths = farm_paths(settings)
    pid = holder(paths.lock_file)
    found = FarmStatus()
    with contextlib.suppress(FileNotFoundError):
        if pid is not None:
            found = FarmStatus.model_validate_json(paths.status_file.read_bytes())
    services = found.services
    if settings.redis_url is not None:
        external = ServiceStatus(name="redis", state="external", serves=_without_password(settings.redis_url))
        services = (external, *services)
    return FarmStatus(pid=pid, since=found.since, services=services)


def logs(settings: Settings, service: str | None = None, *, follow: bool = False) -> Iterator[LogLine]:
    """Yield the lines of one service's log, or of all; with ``follow``, wait for more without an end."""
    _require_not_systemds(settings)
    yield from log_files.logs(settings, service, follow=follow)


def down(settings: Settings) -> bool:
    """Stop the farm, not the VMs, within 20 s; return whether one ran.

    The guests' network stays as long as there are guests: it goes with the farm, or else with the next one.
    """
    require_root("stop a farm")
    _require_not_systemds(settings)
    ran = _stop_supervisor(settings)
    _put_away(settings)
    return ran


def _put_away(settings: Settings) -> None:
    """Remove what the farm's VMs shared, where none of them is left."""
    from banger.embedded import network

    vm_cgroups.remove_if_empty(settings.paths)
    if network.remove_if_unused(settings):
        udev.remove(settings)


def _stop_supervisor(settings: Settings) -> bool:
    lock_file = farm_paths(settings).lock_file
    pid = holder(lock_file)
    if pid is None:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if holder(lock_file) == pid:  # else it ended in between, and the number may be another's by now
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if not select.select([pidfd], [], [], DOWN_DEADLINE_S)[0]:
                raise BangerError(
                    f"the supervisor ({pid}) did not end within {DOWN_DEADLINE_S:g} s",
                    resolution=f"See {farm_paths(settings).log('supervisor')}.",
                )
    finally:
        os.close(pidfd)
    return True


def _prepare(settings: Settings) -> Plan:
    account = worker_account(settings)
    covers = _covers(settings, account.pw_uid, account.pw_gid)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    settings = name_server.resolved(disk_backend.resolved(settings))
    farm = credentials.ensure(settings)
    layout.prepare(settings, farm)
    owner.hand_over(settings, farm)
    probe(settings)
    return farm_plan(settings, farm, covers)


def _covers(settings: Settings, uid: int, gid: int) -> tuple[Cover, ...]:
    def enterable(path: Path) -> bool:
        found = path.stat()
        return may_enter(found.st_mode, found.st_uid, found.st_gid, uid, gid)

    for path in code_paths():
        if not enterable(path):
            raise BangerError(
                f"the user {settings.worker_user} may not read {path}",
                resolution=f"Open it to read (it holds no secrets): chmod -R go=rX {path}",
            )
    state = (settings.state_dir, settings.run_dir)
    return plan_covers(code_paths(), state, lambda path: not path.exists() or enterable(path))


def _served(settings: Settings, status: FarmStatus) -> FarmStatus:
    """Wait until the workers take orders, a moment after they run: the host tells Redis first what it has.

    Where they do not, the next command says so, and doctor why.
    """
    if not {"worker", "root-worker"} <= {one.name for one in status.services}:
        return status
    deadline = time.monotonic() + SERVED_DEADLINE_S
    with contextlib.suppress(UnavailableError), contextlib.closing(connect(settings.redis("cli"))) as client:
        records, host = Records(client), settings.host
        while not all(map(records.serving, (CONTROL, work_queue(host), root_queue(host)))):
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
    return status


def _taken(settings: Settings) -> ConflictError | None:
    """Return why the workers wait where another machine serves under this host's name."""
    with contextlib.suppress(UnavailableError), contextlib.closing(connect(settings.redis("cli"))) as client:
        return refused(settings.host, settings.paths, Records(client).seat(settings.host))
    return None


def _wait_until_ready(settings: Settings, progress: Callable[[str], None]) -> FarmStatus:
    said: dict[str, str] = {}
    began = time.monotonic()
    while True:
        waited_s = time.monotonic() - began
        now = status(settings)
        for one in now.services:
            if said.get(one.name) != one.state:
                said[one.name] = one.state
                progress(f"{one.name}: {one.state}")
        if now.ready:
            _tell_of_failing(settings, now, progress)
            return now
        if waited_s > SEAT_DEADLINE_S and (taken := _taken(settings)):
            down(settings)
            raise taken
        needed = [one for one in now.services if not one.optional]
        failed = [one for one in needed if one.restarts >= MAX_FAILED_STARTS and one.state != "running"]
        if failed or now.pid is None or waited_s > UP_DEADLINE_S:
            missing = failed or [one for one in needed if one.state not in ("running", "external")]
            words = _last_words(settings, missing[0].name if missing else "supervisor")
            down(settings)
            raise BangerError(
                f"{missing[0].name if missing else 'the supervisor'} did not start",
                details=words,
                resolution="The farm was stopped again. `banger farm logs` has all of it.",
            )
        time.sleep(POLL_S)


def _tell_of_failing(settings: Settings, now: FarmStatus, progress: Callable[[str], None]) -> None:
    for one in now.services:
        if one.optional and one.failing:
            words = _last_words(settings, one.name).rpartition("\n")[2]
            progress(f"{one.name} does not run, and is tried again; the farm works without it: {words}")


def _last_words(settings: Settings, service: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return farm_paths(settings).log(service).read_text(errors="replace")[-1500:].strip()
    return ""


@contextlib.contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    control = farm_paths(settings).control
    control.mkdir(parents=True, exist_ok=True)
    with (control / "up.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _require_not_systemds(settings: Settings) -> None:
    """Refuse where `banger system install` has the farm: two would share ports, state and queues."""
    with contextlib.suppress(FileNotFoundError):
        if json.loads(farm_paths(settings).installation.read_bytes())["services"]:
            raise ConflictError(
                "systemd runs the farm of this host",
                resolution="`banger system status` shows it, `journalctl -u 'banger-*'` has its logs.",
            )


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl()
