"""Who may do what in Redis: one user a role, one table of rights, each with its reason.

Redis 7 looks for one row (a selector) that allows a command whole: the word, every key it names, every
channel. What a script does is checked command by command, with all rows; the keys that it declares must
stand, readable and writable, in the row that allows EVAL.

What is here was found by watching the farm (``tests/integration/test_redis_roles.py`` does so again).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from banger.batch_keys import ACTIVE_BATCHES, ALL_BATCHES, answer_key, batch_key, times_key
from banger.contracts.audit import audit_key
from banger.contracts.broker import Role, unacked_key, user_name
from banger.contracts.inventory import inventory_key
from banger.contracts.journal import FARM_EVENTS, leases_key, serving_key
from banger.contracts.queues import CONTROL, root_queue, work_queue
from banger.contracts.seat import seat_key
from banger.findings import report_key

_ANY = "*"
_VMS = "banger:vm:*"  # records and their timelines
_JOBS = "banger:job:*"  # jobs, what they print, and wishes to cancel
_NAMES = "banger:name:*"
_HOSTS = "banger:hosts"
_REPORTS = report_key(_ANY)
_BATCHES = (batch_key(_ANY), ALL_BATCHES, ACTIVE_BATCHES)
_TIMES = times_key(_ANY)
_ANSWERS = answer_key(_ANY)
_RECORDS = (
    *(_VMS, _JOBS, _NAMES, _HOSTS, _REPORTS, FARM_EVENTS),
    *(leases_key(_ANY), seat_key(_ANY), serving_key(_ANY)),
    *(*_BATCHES, _TIMES),
)

_DEADLINES = "_kombu.binding_deadlines"
_FLOWERS_ANSWERS = "reply.flowernull.pidbox"


class Grant(NamedTuple):
    """One row: commands, the keys they may read, write, or both, channels, and why."""

    reason: str
    commands: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    @property
    def selector(self) -> str:
        """The row as Redis writes it."""
        words = [
            *(f"+{command}" for command in self.commands.split()),
            *(f"%R~{key}" for key in self.reads),
            *(f"%W~{key}" for key in self.writes),
            *(f"~{key}" for key in self.keys),
            *(f"&{channel}" for channel in self.channels),
        ]
        return f"({' '.join(words)})"


_CONNECTION = Grant(
    "say who one is and group commands; none names a key",
    "hello ping select client|setname multi exec discard",
)
_FIND_ALL = Grant("list VMs: SCAN tells the names of keys, anybody's, and no value", "scan")
_FOLLOW = Grant(
    "show VMs, jobs, batches, hosts, timelines and what commands print",
    "get hget hgetall hmget hvals exists xread xrange xrevrange zrange lrange smembers",
    reads=_RECORDS,
)
_TAKE_PIECE = Grant("take a piece of a file, which goes from Redis with it", "getdel", keys=(_ANSWERS,))


def grants(role: Role, host: str) -> tuple[Grant, ...]:
    """Return a role's rows. ``admin``, who may do all, has none."""
    match role:
        case "cli":
            return (_CONNECTION, *_cli())
        case "worker":
            return (_CONNECTION, *_celery_worker("worker", host, _takes_as_worker(host)), *_worker(host))
        case "root":
            return (_CONNECTION, *_celery_worker("root", host, (root_queue(host),)), *_root(host))
        case "flower":
            return (_CONNECTION, *_flower())
        case "metrics":
            return (_CONNECTION, *_metrics())
        case "admin":
            return ()


def acl_rules(host: str, passwords: Mapping[Role, str]) -> dict[str, str]:
    """Return what Redis is to be told of each user that has a password here; it gets the password's SHA-256.

    The rules fit a ``user`` line of an aclfile and ``ACL SETUSER``. There, rights are replaced, and the
    password is added to those that other hosts have given the user.
    """
    return {user_name(role, host): _rules(role, host, password) for role, password in passwords.items()}


def _rules(role: Role, host: str, password: str) -> str:
    # root's own, in the file that root alone reads: `banger doctor` asks for settings, a human mends things
    rights = "~* &* +@all" if role == "admin" else " ".join(row.selector for row in grants(role, host))
    secret = hashlib.sha256(password.encode()).hexdigest()
    return f"resetkeys resetchannels clearselectors -@all on #{secret} {rights}"


def _takes_as_worker(host: str) -> tuple[str, ...]:
    return (work_queue(host), CONTROL)


def _cli() -> tuple[Grant, ...]:
    asked = (CONTROL, work_queue(_ANY))
    return (
        Grant("ask for VMs; root's queues are none of its business", "lpush llen", writes=asked),
        Grant("kombu notes the queues that it sends to", "sadd", writes=_bindings(*asked)),
        Grant(
            "wish a job to stop; all else of a job is its workers' to write",
            "set",
            writes=(f"{_JOBS}:cancel",),
        ),
        Grant("tell how full system disks are", "get", reads=(inventory_key(_ANY),)),
        Grant("hold root's audit against what root published", "hmget", reads=(audit_key(_ANY),)),
        _TAKE_PIECE,
        _FOLLOW,
        _FIND_ALL,
    )


def _celery_worker(role: Role, host: str, queues: tuple[str, ...]) -> tuple[Grant, ...]:
    unacked = unacked_key(user_name(role, host))
    return (
        Grant(
            "take from its queues, send to them, and give back what was not done",
            "brpop lpush rpush llen",
            keys=queues,
        ),
        Grant(
            "remember what it took until it is done; others' are theirs, or a message planted there would be"
            " put into any queue by who owns it",
            "hset hget hdel zadd zrem zrange set get del watch unwatch evalsha",
            keys=(unacked, f"{unacked}_index", f"{unacked}_mutex"),
        ),
        Grant("kombu's lock is a script, whose keys the row above bounds", "script|load script|exists"),
        Grant("tell Flower what it does", "publish", channels=("/0.celeryev/*",)),
    )


def _worker(host: str) -> tuple[Grant, ...]:
    sent = (root_queue(host), work_queue(_ANY))
    return (
        Grant(
            "send chains, to root with tickets, and hand a VM to the host it was placed on",
            "lpush llen",
            writes=sent,
        ),
        Grant("kombu notes the queues that it knows", "sadd", writes=_bindings(CONTROL, *sent)),
        Grant(
            "run the scripts that reserve, begin, claim and settle; any host's worker places VMs on any host",
            "eval time",
            keys=(_VMS, _JOBS, _NAMES, leases_key(_ANY), seat_key(host), FARM_EVENTS),
        ),
        _seat(host),
        Grant(
            "write records and jobs", "hset hdel hincrby hexists hget del expire persist", keys=(_VMS, _JOBS)
        ),
        Grant("cancel what outlived its time", "set", writes=(f"{_JOBS}:cancel",)),
        Grant("run the scripts that move batches on", "eval", keys=(*_BATCHES, _JOBS)),
        Grant(
            "write batches",
            "hset hdel hincrby hget hexists del exists expire persist rpush lpush lpop lrem lindex llen"
            " sadd srem scard zadd zrem xadd",
            keys=_BATCHES,
        ),
        Grant("note what took how long in batches", "hset hlen expire", keys=(_TIMES,)),
        Grant("answer with a piece of a file", "set", writes=(_ANSWERS,)),
        _TAKE_PIECE,
        Grant("take and free names", "set get del", keys=(_NAMES,)),
        Grant("take and free slots", "hset hvals hgetall hdel hlen", keys=(leases_key(_ANY),)),
        Grant("tell timelines and what commands print", "xadd", writes=(_VMS, _JOBS, FARM_EVENTS)),
        Grant("say what its host has", "hset", writes=(_HOSTS,)),
        Grant("answer who asks what there is", "hset expire", writes=(_REPORTS,)),
        Grant("hear which VMs root finds on its host", "get", reads=(inventory_key(host),)),
        Grant("notice that Redis was restarted: what it had handed out may be lost", "info"),
        Grant("say what it serves", "set", writes=tuple(map(serving_key, _takes_as_worker(host)))),
        _FOLLOW,
        _FIND_ALL,
    )


def _root(host: str) -> tuple[Grant, ...]:
    sent = (work_queue(host),)
    return (
        Grant("send a chain on", "lpush llen", writes=sent),
        Grant("kombu notes the queues that it knows", "sadd", writes=_bindings(root_queue(host), *sent)),
        Grant(
            "claim and settle steps; names and slots are freed by workers alone",
            "eval time",
            keys=(_VMS, _JOBS, leases_key(host), seat_key(host), FARM_EVENTS),
        ),
        _seat(host),
        Grant("not take it where VMs are on its holder", "hlen", reads=(leases_key(host),)),
        Grant(
            "report on records and jobs",
            "hset hdel hincrby hexists hget exists expire del",
            keys=(_VMS, _JOBS),
        ),
        Grant("read why a job is to stop", "get", reads=(f"{_JOBS}:cancel",)),
        Grant("tell timelines", "xadd", writes=(_VMS, FARM_EVENTS)),
        Grant("sieve a flood of forged messages", "rpop rpush", keys=(root_queue(host),)),
        Grant("say that it serves its queue", "set", writes=(serving_key(root_queue(host)),)),
        Grant("say which VMs there are", "set", writes=(inventory_key(host),)),
        Grant(
            "publish its audit's head, so that a cut-off audit shows",
            "hset",
            writes=(audit_key(host),),
        ),
    )


def _seat(host: str) -> Grant:
    return Grant("be the one machine of its host's name", "hmget hset hdel", keys=(seat_key(host),))


def _flower() -> tuple[Grant, ...]:
    # Its control channel is nobody's (flower_app), so that it can hear and has nobody to command.
    events = _bindings("celeryev")
    answers = _bindings(_FLOWERS_ANSWERS)
    unacked = unacked_key("flower")
    return (
        Grant("hear what workers do", "psubscribe punsubscribe", channels=("/0.celeryev/*",)),
        Grant(
            "begin to listen, which it does with a command to workers: to none",
            "publish",
            channels=("/0.flowernull.pidbox",),
        ),
        Grant(
            "kombu keeps the queues in which it hears",
            "evalsha sadd zadd srem zrangebyscore zrem smembers",
            keys=(*events, *answers, _DEADLINES),
        ),
        Grant("its queue of events", "llen del pexpire", keys=("celeryev.*",)),
        Grant("its queue of answers", "llen del brpop pexpire", keys=(f"*.{_FLOWERS_ANSWERS}",)),
        Grant(
            "kombu takes its own lock",
            "set get del evalsha zrange",
            keys=(unacked, f"{unacked}_index", f"{unacked}_mutex"),
        ),
        Grant("kombu's scripts, whose keys the rows above bound", "time script|load script|exists"),
        Grant("show how long queues are", "llen", reads=(CONTROL, work_queue(_ANY), root_queue(_ANY))),
    )


def _metrics() -> tuple[Grant, ...]:
    return (
        Grant("count what waits", "llen", reads=(CONTROL, work_queue(_ANY), root_queue(_ANY))),
        Grant("count what is being done", "hlen", reads=(unacked_key(_ANY),)),
        Grant("count VMs by state", "hget hmget", reads=(_VMS,)),
        Grant(
            "count hosts and what they have left",
            "hgetall hvals hlen exists",
            reads=(_HOSTS, leases_key(_ANY), serving_key(_ANY)),
        ),
        Grant("count what root refused", "hgetall", reads=(audit_key(_ANY),)),
        Grant("count events", "xlen xinfo|stream", reads=(FARM_EVENTS,)),
        _FIND_ALL,
    )


def _bindings(*queues: str) -> tuple[str, ...]:
    return tuple(f"_kombu.{kind}.{queue}" for kind in ("binding", "binding_permanent") for queue in queues)
