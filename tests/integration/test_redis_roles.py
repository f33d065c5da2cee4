"""The rights of each role, held against a real Redis: what it needs it may, and nothing that it must not.

That a whole farm works with these rights is seen by every test that runs one: ``farm_box`` fails where Redis
refused anything to the farm's own users.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from banger.batch_keys import answer_key, batch_events_key, batch_key
from banger.connection import FarmRedis
from banger.contracts.audit import audit_key
from banger.contracts.broker import ROLES, Role, unacked_key, user_name
from banger.contracts.journal import FARM_EVENTS, cancel_key, job_key, leases_key, serving_key, vm_key
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.contracts.redis_url import user_url
from banger.dispatch import celery_app
from banger.redis_roles import acl_rules, grants

pytestmark = pytest.mark.integration

HERE, THERE = "here", "there"
VM, JOB, BATCH = "a" * 12, "b" * 12, "c" * 12
PLANTED = "a message that is put into the queue it names"


class Users:
    """Redis with both hosts' users, and a client for each role of the first."""

    def __init__(self, admin: FarmRedis, url: str) -> None:
        self.admin: Any = admin
        self._address = f"redis://{urlsplit(url).netloc.rpartition('@')[2]}/0"
        self._passwords: dict[Role, str] = {role: secrets.token_urlsafe(18) for role in ROLES}
        for host in (HERE, THERE):
            for user, rules in acl_rules(host, self._passwords).items():
                self.admin.execute_command("ACL", "SETUSER", user, *rules.split())
        self._clients: dict[Role, Any] = {}

    def url(self, role: Role) -> str:
        return user_url(self._address, user_name(role, HERE), self._passwords[role])

    def as_(self, role: Role) -> Any:
        if role not in self._clients:
            self._clients[role] = redis.Redis.from_url(self.url(role), decode_responses=True)
        return self._clients[role]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self.admin.execute_command("ACL", "DELUSER", *(user_name(r, h) for r in ROLES for h in (HERE, THERE)))


@pytest.fixture
def users(redis_client: FarmRedis, redis_url: str) -> Iterator[Users]:
    made = Users(redis_client, redis_url)
    admin = made.admin
    for host in (HERE, THERE):
        for queue in (work_queue(host), root_queue(host), CONTROL):
            admin.rpush(queue, "one", "two", "three")
        admin.hset(leases_key(host), VM, "2:256:1")
        for role in ("worker", "root"):
            admin.hset(unacked_key(user_name(role, host)), "tag", "message")
    admin.hset(vm_key(VM), mapping={"id": VM, "state": "running"})
    admin.hset(job_key(JOB), mapping={"vm": VM, "state": "running"})
    admin.xadd(FARM_EVENTS, {"e": "{}"})
    yield made
    made.close()


REFUSED = "no permissions|No permissions|can't run this command"
ROOTS, OTHERS_ROOTS = root_queue(HERE), root_queue(THERE)
ROOTS_UNACKED = unacked_key(f"root-{HERE}")
DROP = "return redis.call('DEL', KEYS[1])"

FORBIDDEN: list[tuple[str, tuple[Role, ...], tuple[Any, ...]]] = [
    ("ask root", ("cli", "flower", "metrics"), ("LPUSH", ROOTS, "forged")),
    (
        "ask another host's root",
        ("cli", "worker", "root", "flower", "metrics"),
        ("LPUSH", OTHERS_ROOTS, "forged"),
    ),
    ("take what root is asked", ("cli", "worker", "flower", "metrics"), ("BRPOP", ROOTS, "1")),
    ("take what another's root is asked", ("root",), ("BRPOP", OTHERS_ROOTS, "1")),
    ("read what root is asked", ("cli", "worker", "flower", "metrics"), ("LRANGE", ROOTS, "0", "-1")),
    ("throw away what root is asked", ("cli", "worker", "flower", "metrics"), ("DEL", ROOTS)),
    ("put root's messages elsewhere", ("cli", "worker", "flower", "metrics"), ("RENAME", ROOTS, "elsewhere")),
    ("take what the worker is asked", ("cli", "root", "flower", "metrics"), ("BRPOP", work_queue(HERE), "1")),
    ("take what another worker is asked", ("worker",), ("BRPOP", work_queue(THERE), "1")),
    ("ask a worker", ("flower", "metrics"), ("LPUSH", work_queue(HERE), "forged")),
    ("place VMs", ("root", "flower", "metrics"), ("LPUSH", CONTROL, "forged")),
    (
        "plant in root's unacked",
        ("cli", "worker", "flower", "metrics"),
        ("HSET", ROOTS_UNACKED, "t", PLANTED),
    ),
    (
        "plant in its index",
        ("cli", "worker", "flower", "metrics"),
        ("ZADD", f"{ROOTS_UNACKED}_index", "0", "t"),
    ),
    ("plant in another's unacked", ("root",), ("HSET", unacked_key(f"root-{THERE}"), "t", PLANTED)),
    ("plant in the worker's unacked", ("cli", "root"), ("HSET", unacked_key(f"worker-{HERE}"), "t", PLANTED)),
    (
        "command workers",
        ("cli", "worker", "root", "flower", "metrics"),
        ("PUBLISH", "/0.celery.pidbox", "{}"),
    ),
    ("say what happened", ("cli", "flower", "metrics"), ("PUBLISH", "/0.celeryev/task.failed", "{}")),
    ("change a record", ("cli", "flower", "metrics"), ("HSET", vm_key(VM), "address", "192.0.2.1")),
    ("change a job", ("cli", "flower", "metrics"), ("HSET", job_key(JOB), "state", "done")),
    ("forget a job", ("cli", "flower", "metrics"), ("DEL", job_key(JOB))),
    ("cancel", ("flower", "metrics"), ("SET", cancel_key(JOB), "1")),
    ("take a name", ("cli", "root", "flower", "metrics"), ("SET", "banger:name:dev", VM)),
    ("free a slot", ("cli", "flower", "metrics"), ("HDEL", leases_key(HERE), VM)),
    ("free another host's slot", ("root",), ("HDEL", leases_key(THERE), VM)),
    ("say that root serves", ("cli", "worker", "flower", "metrics"), ("SET", serving_key(ROOTS), "1")),
    ("say that another serves", ("worker", "root"), ("SET", serving_key(work_queue(THERE)), "1")),
    (
        "unsay what root has audited",
        ("cli", "worker", "flower", "metrics"),
        ("HSET", audit_key(HERE), "seq", "0"),
    ),
    ("unsay what another's root has", ("root",), ("HSET", audit_key(THERE), "seq", "0")),
    ("forget the farm's events", ("cli", "worker", "root", "flower", "metrics"), ("DEL", FARM_EVENTS)),
    ("change a batch", ("cli", "root", "flower", "metrics"), ("HSET", batch_key(BATCH), "state", "ended")),
    (
        "change a batch's job",
        ("cli", "root", "flower", "metrics"),
        ("HSET", f"{batch_key(BATCH)}:jobs", "0", "x"),
    ),
    ("forget a batch", ("cli", "root", "flower", "metrics"), ("DEL", batch_key(BATCH))),
    (
        "say what became of a batch",
        ("cli", "root", "flower", "metrics"),
        ("XADD", batch_events_key(BATCH), "*", "batch", "ended"),
    ),
    ("read a batch", ("root", "flower", "metrics"), ("HGETALL", batch_key(BATCH))),
    ("answer with a piece of a file", ("cli", "root", "flower", "metrics"), ("SET", answer_key(JOB), "x")),
    ("take such a piece", ("root", "flower", "metrics"), ("GETDEL", answer_key(JOB))),
    ("run a script", ("cli", "flower", "metrics"), ("EVAL", "return 1", "0")),
    ("reach root's queue by a script", ("worker",), ("EVAL", DROP, "1", ROOTS)),
    ("reach it undeclared", ("worker",), ("EVAL", f"return redis.call('RPOP', '{ROOTS}')", "0")),
    ("read the job of a VM", ("flower", "metrics"), ("HGETALL", job_key(JOB))),
    ("read a record whole", ("flower", "metrics"), ("HGETALL", vm_key(VM))),
    ("list all keys at once", ("cli", "worker", "root", "flower", "metrics"), ("KEYS", "*")),
    ("watch everybody", ("cli", "worker", "root", "flower", "metrics"), ("CLIENT", "LIST")),
    ("ask for settings", ("cli", "worker", "root", "flower", "metrics"), ("CONFIG", "GET", "dir")),
    ("set them", ("cli", "worker", "root", "flower", "metrics"), ("CONFIG", "SET", "maxclients", "10000")),
    ("read the users", ("cli", "worker", "root", "flower", "metrics"), ("ACL", "LIST")),
    ("make a user", ("cli", "worker", "root", "flower", "metrics"), ("ACL", "SETUSER", "mallory")),
    ("empty it", ("cli", "worker", "root", "flower", "metrics"), ("FLUSHALL",)),
]


@pytest.mark.parametrize(("what", "roles", "words"), FORBIDDEN, ids=[row[0] for row in FORBIDDEN])
def test_what_a_role_has_no_business_with_is_refused(users: Users, what: str, roles: Any, words: Any) -> None:
    for role in roles:
        with pytest.raises(redis.ResponseError, match=REFUSED):
            users.as_(role).execute_command(*words)
    users.admin.execute_command(*words)  # it is the rights that stood in the way


ALLOWED: list[tuple[Role, tuple[Any, ...]]] = [
    ("cli", ("LPUSH", CONTROL, "asked")),
    ("cli", ("LPUSH", work_queue(THERE), "asked")),
    ("cli", ("SET", cancel_key(JOB), "1", "EX", "10")),
    ("cli", ("HGETALL", vm_key(VM))),
    ("cli", ("XRANGE", FARM_EVENTS, "-", "+")),
    ("cli", ("HGETALL", batch_key(BATCH))),
    ("cli", ("HMGET", f"{batch_key(BATCH)}:jobs", "0", "1")),
    ("cli", ("XRANGE", batch_events_key(BATCH), "-", "+")),
    ("cli", ("GETDEL", answer_key(JOB))),
    ("worker", ("EVAL", DROP, "1", batch_key(BATCH))),
    ("worker", ("SET", answer_key(JOB), "x", "EX", "60")),
    ("worker", ("BRPOP", work_queue(HERE), CONTROL, "1")),
    ("worker", ("LPUSH", ROOTS, "ticket")),
    ("worker", ("EVAL", DROP, "1", vm_key(VM))),
    ("root", ("BRPOP", ROOTS, "1")),
    ("root", ("LPUSH", work_queue(HERE), "next")),
    ("root", ("HSET", audit_key(HERE), "seq", "1")),
    ("flower", ("LLEN", ROOTS)),
    ("metrics", ("LLEN", ROOTS)),
    ("metrics", ("HGET", vm_key(VM), "state")),
    ("metrics", ("HLEN", ROOTS_UNACKED)),
    ("metrics", ("HGETALL", audit_key(HERE))),
]


@pytest.mark.parametrize(("role", "words"), ALLOWED, ids=[f"{role} {words[0]}" for role, words in ALLOWED])
def test_what_a_role_is_there_for_is_allowed(users: Users, role: Role, words: Any) -> None:
    users.as_(role).execute_command(*words)


@pytest.mark.parametrize("role", ["worker", "root"])
def test_what_a_worker_took_and_did_not_do_goes_back_to_its_queue(users: Users, role: Role) -> None:
    queue = {"worker": work_queue(HERE), "root": ROOTS}[role]
    unacked = unacked_key(user_name(role, HERE))
    users.admin.delete(queue, unacked)
    taken = {
        "body": "",
        "headers": {},
        "properties": {"delivery_info": {"exchange": "", "routing_key": queue}},
    }
    users.admin.hset(unacked, "tag", json.dumps([taken, "", queue]))
    users.admin.zadd(f"{unacked}_index", {"tag": 0})
    app = celery_app("tests", users.url(role))
    with app.connection() as line:
        line.default_channel.qos.restore_visible(interval=1)
    app.close()
    assert users.admin.llen(queue) == 1
    assert not users.admin.exists(unacked, f"{unacked}_index")


def test_nobody_is_let_in_without_a_name_or_with_anothers_password(users: Users, redis_url: str) -> None:
    port = urlsplit(redis_url).port
    assert port is not None
    for who in ({}, {"username": "cli", "password": "not the one"}, {"password": "not the one"}):
        stranger = redis.Redis("127.0.0.1", port, retry=Retry(NoBackoff(), 0), **who)
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_rules_given_again_replace_rights_and_keep_passwords(users: Users) -> None:
    users.admin.execute_command("ACL", "SETUSER", "cli", "+flushall", "(+keys ~*)")
    before = users.admin.execute_command("ACL", "GETUSER", "cli")
    rules = acl_rules(THERE, {"cli": "of another host's farm"})["cli"]
    users.admin.execute_command("ACL", "SETUSER", "cli", *rules.split())
    after = users.admin.execute_command("ACL", "GETUSER", "cli")
    assert len(after["passwords"]) == len(before["passwords"]) + 1
    for words in (("FLUSHALL",), ("KEYS", "*")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            users.as_("cli").execute_command(*words)
    users.as_("cli").execute_command("LPUSH", CONTROL, "asked")


def test_every_right_has_its_reason_and_no_role_but_roots_own_has_all() -> None:
    for role in ROLES:
        rows = grants(role, HERE)
        assert (rows == ()) == (role == "admin")
        assert all(row.reason and row.commands for row in rows)
        assert not any(word in row.selector for row in rows for word in ("~* ", "&*", "+@", "allkeys"))
