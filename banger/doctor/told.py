"""What Redis tells doctor, over one connection: of itself, of who serves, of what somebody should look at."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, NamedTuple

from banger.connection import connect
from banger.contracts.errors import BangerError
from banger.contracts.inventory import Inventory
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.contracts.seat import refused
from banger.contracts.states import State
from banger.doctor.facts import RedisFacts
from banger.findings import UNKEPT
from banger.jobs import deadline_at
from banger.records import Records
from banger.settings import Settings

_ANSWER_S = 2.5


class Told(NamedTuple):
    """What was told: ``Facts`` says of what. Nobody serves anything where Redis cannot be asked."""

    redis: RedisFacts
    served: dict[str, bool]
    trouble: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()


def ask_redis(settings: Settings) -> Told:
    """Ask the farm's Redis, as this user may."""
    queues = (CONTROL, work_queue(settings.host), root_queue(settings.host))
    try:
        with closing(connect(settings.redis(), answer_s=_ANSWER_S)) as client:
            records = Records(client)
            policy, append_only = _configured(settings, "maxmemory-policy", "appendonly")
            return Told(
                redis=RedisFacts(
                    version=_server_version(client),
                    policy=policy,
                    append_only=append_only,
                    seat_taken=_seat_taken(settings, records),
                ),
                served={queue: records.serving(queue) for queue in queues},
                trouble=_trouble(records),
                strange=_strange(records.inventory(settings.host)),
            )
    except BangerError as error:
        redis = RedisFacts(problem=f"{error.brief}: {error.details}".rstrip(": "), remedy=error.resolution)
        return Told(redis, dict.fromkeys(queues, False))


def _server_version(client: Any) -> str:
    """Return what Redis says of itself when it is greeted, which everybody may."""
    said = client.execute_command("HELLO")
    return str((said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True)))["version"])


def _configured(settings: Settings, *names: str) -> list[str | None]:
    """Return settings of Redis, None where this user may not ask: root may, of the farm's own."""
    try:
        client: Any = connect(settings.redis("admin"), answer_s=_ANSWER_S)
        with closing(client):
            return [client.config_get(name).get(name) for name in names]
    except Exception:
        return [None] * len(names)


def _seat_taken(settings: Settings, records: Records) -> tuple[str, str] | None:
    """Return which other machine serves under this host's name, and what to do; None where none does."""
    try:
        taken = refused(settings.host, settings.paths, records.seat(settings.host))
    except OSError:
        return None  # this machine was never given an id: it has served nobody yet
    return (f"{taken.brief}: {taken.details}", taken.resolution) if taken else None


def _trouble(records: Records) -> tuple[str, ...]:
    """Return what asks for somebody to look at it."""
    everyone = records.all()
    found = {host: records.inventory(host) for host in {one.host for one in everyone}}
    names = {one.id: one.name for one in everyone}
    disks = [vm for one in found.values() if one for vm in one.vms if vm.overlay and vm.overlay.level]
    running = {one.id for one in everyone if one.state is State.RUNNING and one.job is None}
    unkept = [vm for one in found.values() if one for vm in one.vms if vm.alive and not vm.kept]
    failed = [one for one in everyone if one.state in (State.ERROR, State.LOST)]
    late = [job for job in records.jobs() if (due := deadline_at(job)) is not None and due < time.time()]
    return (
        *(f"VM {one.called} is {one.state}" for one in failed),
        *(f"VM {names.get(vm.vm_id, vm.vm_id)}'s system disk: {vm.overlay}" for vm in disks),
        *(f"VM {names[vm.vm_id]}: {UNKEPT}" for vm in unkept if vm.vm_id in running),
        *(f"job {job.id} ({job.pipeline}) is overdue" for job in late),
    )


def _strange(found: Inventory | None) -> tuple[str, ...]:
    """Return what root finds on this host that is called like ours and is no VM's, in words."""
    if found is None:
        return ()
    return (
        *(f"{one.kind} {one.name}" for one in found.strays),
        *(f"{one.kind} {one.name} (not made by us)" for one in found.foreign),
    )
