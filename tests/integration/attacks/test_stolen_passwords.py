"""What a thief gets done with the Redis password of a role: its own work, and nothing of root's.

Each theft is first shown to work with a password that may all, on a host that nobody serves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from farm_box import THIEF, eventually
from faulty_farm import Fault, FaultyFarm
from forgery import sealed

from banger.contracts.broker import Role, unacked_key
from banger.contracts.journal import cancel_key, job_key, serving_key, vm_key
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.contracts.states import State
from banger.embedded.redis import MAX_MESSAGE_BYTES

pytestmark = pytest.mark.integration

STOLEN: tuple[Role, ...] = ("cli", "flower", "metrics", "worker")
SHUTDOWN = {"method": "shutdown", "arguments": {}, "destination": None, "pattern": None, "matcher": None}


class Loot:
    """The farm, and what a thief would do to a host with a connection."""

    def __init__(self, farm: FaultyFarm) -> None:
        self.farm = farm
        self._clients: list[Any] = []

    def as_(self, role: Role) -> Any:
        client = redis.Redis.from_url(self.farm.box.url(role), decode_responses=True, client_name=THIEF)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def loot(faulty: FaultyFarm) -> Iterator[Loot]:
    made = Loot(faulty)
    yield made
    made.close()


def planted(queue: str) -> str:
    """Return an entry of ``unacked`` that its owner puts into a queue when the time is over."""
    forged = sealed(b"[[], {}, {}]", {"task": "banger.root.launch", "id": "x"})
    return json.dumps([forged, "", queue])


def take(client: Any, host: str) -> None:
    client.execute_command("BRPOP", root_queue(host), "0.01")


def plant(client: Any, host: str) -> None:
    client.hset(unacked_key(f"root-{host}"), "tag", planted(root_queue(host)))
    client.zadd(f"{unacked_key(f'root-{host}')}_index", {"tag": 0})


def command_root(client: Any, _host: str) -> None:
    client.publish("/0.celery.pidbox", json.dumps(SHUTDOWN))


def silence(client: Any, host: str) -> None:
    client.set(serving_key(root_queue(host)), "1")


def by_script(client: Any, host: str) -> None:
    client.eval(
        "return redis.call('LPUSH', KEYS[1], 'forged', 'forged')", 1, unacked_key(f"root-{host}") + "_l"
    )


THEFTS = {
    "take its messages": take,
    "plant in its unacked": plant,
    "command it": command_root,
    "speak for it": silence,
    "reach it by a script": by_script,
}


@pytest.mark.parametrize("theft", THEFTS)
def test_nothing_of_roots_is_reached_with_another_roles_password(loot: Loot, theft: str) -> None:
    box = loot.farm.box
    admin = loot.as_("admin")
    THEFTS[theft](admin, "elsewhere")
    admin.delete(*(f"{unacked_key('root-elsewhere')}{suffix}" for suffix in ("", "_index", "_l")))
    before, ran = box.pid("root-worker"), len(loot.farm.ran())
    for role in STOLEN:
        with pytest.raises(redis.ResponseError, match="permissions"):
            THEFTS[theft](loot.as_(role), box.settings.host)
    assert box.farm.create("dev", start=False).state is State.STOPPED
    assert box.pid("root-worker") == before
    assert [line.split()[0] for line in loot.farm.ran()[ran:]] == ["admit"]


def test_no_role_sends_a_worker_more_than_it_can_hold(loot: Loot) -> None:
    host = loot.farm.box.settings.host
    for role, queue in (("worker", root_queue(host)), ("cli", CONTROL), ("admin", CONTROL)):
        with pytest.raises(redis.RedisError):
            loot.as_(role).lpush(queue, bytes(MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize("role", ["cli", "flower", "metrics"])
def test_only_this_hosts_worker_can_say_anything_to_root(loot: Loot, role: Role) -> None:
    queue = root_queue(loot.farm.box.settings.host)
    for client in (loot.as_("root"), loot.as_("worker")):
        client.lpush(queue, "no message")  # who may, is heard, and passed over
    with pytest.raises(redis.exceptions.NoPermissionError):
        loot.as_(role).lpush(queue, "no message")


def test_with_the_workers_password_root_is_asked_and_refuses(loot: Loot) -> None:
    box, ran = loot.farm.box, len(loot.farm.ran())
    forged = sealed(
        b'[["no ticket"], {}, {}]', {"lang": "py", "task": "banger.root.tap.undo", "id": "forged"}
    )
    loot.as_("worker").lpush(root_queue(box.settings.host), json.dumps(forged))
    assert box.farm.create("dev", start=False).state is State.STOPPED
    assert [line.split()[0] for line in loot.farm.ran()[ran:]] == ["admit"]


@pytest.mark.parametrize("role", ["cli", "flower", "metrics"])
def test_a_running_job_is_its_workers(loot: Loot, role: Role) -> None:
    box = loot.farm.box
    loot.farm.expect(Fault("overlay", "before", "hold"))
    submission = box.farm.submit_create(box.farm.spec("dev"), start=False)
    eventually(lambda: any(e.stage == "overlay" for e in box.farm.events.read(submission.vm_id)))
    thief, vm, job = loot.as_(role), vm_key(submission.vm_id), job_key(submission.job)
    for words in (
        ("HSET", vm, "state", "gone"),
        ("HSET", job, "s:02", "done"),
        ("DEL", job),
        ("SET", job, "no hash"),
        ("EVAL", "return redis.call('DEL', KEYS[1])", "1", job),
        ("XADD", f"{vm}:events", "*", "e", "{}"),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            thief.execute_command(*words)
    loot.farm.mend()
    assert submission.wait().state == State.STOPPED


def test_what_a_thief_can_do_with_the_clis_password_is_what_a_cli_does(loot: Loot) -> None:
    box, thief = loot.farm.box, loot.as_("cli")
    thief.lpush(CONTROL, "no message")
    thief.lpush(work_queue(box.settings.host), "no message")
    thief.set(cancel_key("0" * 12), "1")
    assert box.farm.create("dev", start=False).state is State.STOPPED
