"""Root's door, from outside: what a stranger who can write to root's queue gets done. Nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import forgery
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from farm_box import eventually
from faulty_farm import Fault, FaultyFarm
from forgery import (
    Message,
    claims_of,
    message,
    of_protocol_1,
    pickled,
    sealed,
    signature,
    starmap,
    tampered,
    ticket,
)
from netns import inside

from banger.audit import entries, verify
from banger.cli import main
from banger.contracts.audit import Head, audit_key
from banger.contracts.broker import unacked_key
from banger.contracts.calls import StageCall
from banger.contracts.journal import job_key
from banger.contracts.names import new_id
from banger.contracts.queues import root_queue
from banger.contracts.requests import UndoRequest
from banger.contracts.states import State
from banger.contracts.tickets import seal
from banger.embedded import control
from banger.pipelines import CREATE_STOPPED
from banger.planning import calls
from banger.ticket_keys import private_key, rotate

pytestmark = pytest.mark.integration

FAR, NEVER = "2999-01-01T00:00:00+00:00", "99999-99-99T99:00:00"
LONG_AGO_S, HOUR_MS = 3 * 24 * 3600, 3_600_000
BUILT_IN = ["map", "starmap", "chunks", "group", "chain", "chord", "accumulate", "backend_cleanup"]


class Target(NamedTuple):
    """A step that root would take at once, if it were asked as it should be."""

    farm: FaultyFarm
    call: StageCall
    root_pid: int

    @property
    def queue(self) -> str:
        return root_queue(self.farm.box.settings.host)

    def witness(self, step: str) -> StageCall:
        """Return another call that root would take: the line ``tap undo`` says that it was run."""
        request = UndoRequest(vm_id=self.call.vm_id, generation=self.call.generation)
        return self.call.model_copy(
            update={"step": step, "stage": "tap", "direction": "undo", "request": request.model_dump()}
        )

    def send(self, forged: Message) -> list[str]:
        """Put a message into root's queue and return what root ran of it; root must go on serving."""
        client: Any = self.farm.box.admin.redis
        before = len(self.farm.ran())
        client.lpush(self.queue, json.dumps(forged))
        # Messages are taken in order: when the next one, which is about nothing there is, is through and
        # nothing is in hand, this one is over too.
        following = self.call.model_copy(
            update={"job": new_id(), "request": {"vm_id": new_id(), "generation": 1, "slot": 9}}
        )
        client.lpush(self.queue, json.dumps(message(following)))
        eventually(lambda: self._said(f"[{following.task_id}] succeeded"))
        eventually(lambda: not client.exists(unacked_key(f"root-{self.farm.box.settings.host}")))
        assert self.farm.box.pid("root-worker") == self.root_pid
        return self.farm.ran()[before:]

    def refusals(self) -> int:
        """Return how many messages the door has refused so far."""
        return len(self.audited("refused"))

    def refusals_counted(self) -> int:
        """Return how many messages root says that it has refused, those of a flood included."""
        return int(self.published()["refused"])

    def published(self) -> dict[str, str]:
        """Return what root says of its audit."""
        client: Any = self.farm.box.admin.redis
        return dict(client.hgetall(audit_key(self.farm.box.settings.host)))

    def audited(self, event: str) -> list[dict[str, Any]]:
        """Return what root's audit has of this kind."""
        files = sorted(self.farm.box.paths.audit.iterdir())
        entries = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [entry for entry in entries if entry["event"] == event]

    def _said(self, text: str) -> int:
        return sum(text in line.text for line in control.logs(self.farm.box.settings, "root-worker"))


def reserve(farm: FaultyFarm, name: str) -> StageCall:
    """Make a record whose job waits for its first step, which nobody rings for; return that step."""
    records, vm_id, job_id = farm.box.admin, new_id(), new_id()
    host = records.hosts()[0]
    image = host.image("micro")
    assert image is not None
    assert records.reserve(vm_id, job_id, CREATE_STOPPED, farm.box.farm.spec(name), host, image)
    farm.box.admin.redis.hset(job_key(job_id), "touched", str(int(time.time() * 1000) + HOUR_MS))
    record, job = records.get(vm_id), records.job(job_id)
    assert record is not None
    assert job is not None
    return calls(CREATE_STOPPED, record, job, host.network, host.uid_base)[0]


@pytest.fixture(scope="module")
def target(faulty_farm: FaultyFarm) -> Iterator[Target]:
    with inside(faulty_farm.box.network):
        faulty_farm.mend()
        forgery.key = private_key(faulty_farm.box.paths)
        call = reserve(faulty_farm, "target")
        yield Target(faulty_farm, call, faulty_farm.box.pid("root-worker"))
        faulty_farm.mend()
        farm = faulty_farm.box.farm
        for record in farm.list():  # now they may be rung for
            faulty_farm.box.admin.redis.hset(job_key(record.job or call.job), "touched", "0")
        eventually(lambda: farm.show("target").state is State.STOPPED)
        farm.delete("target")
        assert not faulty_farm.box.traces()


def test_a_right_message_is_run(target):
    assert target.send(message(target.witness("50"))) == ["tap undo"]


# --- forged messages -----------------------------------------------------------------------------

STRANGER = Ed25519PrivateKey.generate()


def spliced(one: str, other: str) -> str:
    return f"{one.partition('.')[0]}.{other.partition('.')[2]}"


FORGERIES: dict[str, Callable[[StageCall], Message]] = {
    "a call without a ticket": lambda call: message(call, [call.model_dump(mode="json")]),
    "claims without a seal": lambda call: message(call, [claims_of(call)]),
    "a ticket that a stranger has sealed": lambda call: message(call, [seal(call, STRANGER, time.time())]),
    "a ticket without its seal": lambda call: message(call, [ticket(call).split(".")[0]]),
    "a ticket with another's seal": lambda call: message(call, [spliced(ticket(call), ticket(call))]),
    "starmap of a task": lambda call: message(call, [], starmap(call)["kwargs"], task="celery.starmap"),
    "map of a task": lambda call: message(call, [], starmap(call, "celery.map")["kwargs"], task="celery.map"),
    "bad arguments with an errback": lambda call: message(call, [1, 2], embed={"errbacks": [starmap(call)]}),
    "an impossible eta with an errback": lambda call: message(
        call, [1], eta=NEVER, embed={"errbacks": [starmap(call)]}
    ),
    "protocol 1": of_protocol_1,
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_message_runs_nothing(target, forgery):
    before = target.refusals()
    assert target.send(FORGERIES[forgery](target.call)) == []
    assert target.refusals() == before + 1


def test_a_pickle_is_not_opened(target, tmp_path):
    assert target.send(pickled(target.call, tmp_path / "opened")) == []
    assert not (tmp_path / "opened").exists()


# --- misused tickets -----------------------------------------------------------------------------


def link(task: str, queue: str) -> dict[str, Any]:
    options = {"queue": queue, "task_id": f"{new_id()}-{new_id()}-01-tap", "argsrepr": "", "kwargsrepr": ""}
    return signature(task) | {"options": options}


MISUSES: dict[str, Callable[[StageCall], Message]] = {
    "for another task": lambda call: message(call, task="banger.root.admit.undo"),
    "under another id": lambda call: message(call, task_id=call.task_id + "x"),
    "for another host": lambda call: message(call, [ticket(call, host="elsewhere")]),
    "expired": lambda call: message(call, [ticket(call, age_s=LONG_AGO_S)]),
    "of tomorrow": lambda call: message(call, [ticket(call, age_s=-LONG_AGO_S)]),
    "two of them": lambda call: message(call, [ticket(call)] * 2),
    "with keyword arguments": lambda call: message(call, kwargs={"x": 1}),
    "cut short": lambda call: message(call, [ticket(call)[:-9]]),
    "larger than any": lambda call: message(call, ["A" * (1 << 20)]),
    "in a list": lambda call: message(call, [[ticket(call)]]),
    "of the unprivileged side": lambda call: message(call, [ticket(call, stage="overlay")]),
    "for a slot outside the network": lambda call: message(call, [tampered(call, slot=65533)]),
    "for a path instead of an id": lambda call: message(call, [tampered(call, vm_id="../../../etc")]),
    "with a chain to another queue": lambda call: message(
        call, embed={"chain": [link("banger.work.x", "q")]}
    ),
    "with a chain to another's task": lambda call: message(
        call, embed={"chain": [link("celery.map", call.queue)]}
    ),
    "with a chain that is none": lambda call: message(call, embed={"chain": [1]}),
    "with a field that nobody knows": lambda call: message(call, [tampered(call, command="reboot")]),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_misused_ticket_runs_nothing(target, misuse):
    before = target.refusals()
    assert target.send(MISUSES[misuse](target.call)) == []
    assert target.refusals() == before + 1


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_built_in_task_is_run_even_with_a_ticket(target, name):
    before = target.refusals()
    assert target.send(message(target.call, task=f"celery.{name}")) == []
    assert target.refusals() == before + 1


@pytest.mark.parametrize("name", ["banger.root.shell", "banger.work.overlay", "os.system", "celery.nothing"])
def test_a_task_that_root_does_not_have_is_not_run(target, name):
    assert target.send(message(target.call, task=name)) == []


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"[[]]", b"{}", b'[[1], {}, "x"]', b"\xff\xfe", b"[" * 5000]
)
def test_a_body_of_any_other_shape_runs_nothing(target, body):
    assert target.send(sealed(body, message(target.call)["headers"])) == []


# --- what is let in ------------------------------------------------------------------------------


def test_of_a_right_message_only_the_ticket_counts_and_only_once(target):
    elsewhere = starmap(target.witness("51"))
    right = message(
        target.call,
        embed={"callbacks": [elsewhere], "errbacks": [elsewhere], "chord": signature("celery.chord")},
        eta=FAR,
        expires="2001-01-01T00:00:00+00:00",
        timelimit=[0.001, 0.001],
        stamps={"x": "y"},
        stamped_headers=["x"],
        retries=1000,
        ignore_result=False,
        replaced_task_nesting=9,
    )
    assert target.send(right) == ["admit do"]


def test_a_ticket_is_used_once_whatever_redis_remembers(target):
    again = target.witness("53")
    captured = message(again)
    assert target.send(captured) == ["tap undo"]
    client, before = target.farm.box.admin.redis, target.refusals()
    client.hdel(job_key(again.job), f"s:{again.step}")  # as if the step had never been done
    assert target.send(captured) == []
    assert target.refusals() == before + 1
    assert target.audited("refused")[-1]["reason"] == "the ticket was used before"
    assert target.send(message(again)) == ["tap undo"]  # sealed again by who may


def test_a_failing_stage_calls_no_errback(target):
    farm = target.farm
    call = reserve(farm, "failing")
    farm.expect(Fault("admit", "before"))
    elsewhere = starmap(target._replace(call=call).witness("u50"))
    before = len(farm.ran())
    target.send(message(call, embed={"errbacks": [elsewhere]}))
    eventually(lambda: farm.box.farm.show("failing").state is State.ERROR)
    farm.mend()
    assert farm.ran()[before:] == ["admit do", "admit undo"]
    farm.box.farm.delete("failing")


def test_nobody_listens_on_the_control_channel(target):
    order = {"method": "shutdown", "arguments": {}, "destination": None, "pattern": None, "matcher": None}
    forged = sealed(json.dumps(order).encode(), {})
    assert target.farm.box.admin.redis.publish("/0.celery.pidbox", json.dumps(forged)) == 0
    assert target.send(message(target.witness("52"))) == ["tap undo"]


# --- masses, and what is no message at all --------------------------------------------------------


RUBBISH = [b"", b"rubbish", b"\xff\xfe\x00", b"[]", b"{}", b'"x"', b"1", b"[" * 100_000, b'{"headers": 1}']


@pytest.mark.parametrize(("number", "rubbish"), [*enumerate(RUBBISH)])
def test_what_is_no_message_ends_no_worker(target, number, rubbish):
    client: Any = target.farm.box.admin.redis
    client.lpush(target.queue, rubbish)
    assert target.send(message(target.witness(f"6{number}"))) == ["tap undo"]
    work = f"banger.work.{target.farm.box.settings.host}"
    pid = target.farm.box.pid("worker")
    client.lpush(work, rubbish)
    eventually(lambda: not client.exists(work))
    assert target.farm.box.pid("worker") == pid


def test_a_flood_is_thrown_out_and_what_is_right_in_it_is_run(target):
    client: Any = target.farm.box.admin.redis
    before = target.refusals_counted()  # what is published may be 2 s old
    forged = json.dumps(message(target.call, [seal(target.call, STRANGER, time.time())]))
    witnesses = [target.witness(f"7{number}") for number in range(3)]
    client.lpush(target.queue, *[forged] * 1500)
    for witness in witnesses:  # one at a time: they are one VM's
        client.lpush(target.queue, json.dumps(message(witness)), *[forged] * 500)
        mark = job_key(witness.job), f"s:{witness.step}"
        eventually(lambda mark=mark: client.hget(*mark) == "done")
    eventually(lambda: target.refusals_counted() >= before + 3000)
    assert target.send(message(target.witness("73"))) == ["tap undo"]


# --- keys -----------------------------------------------------------------------------------------


def test_a_rotated_key_ends_what_the_old_one_has_sealed_but_no_service(target):
    paths = target.farm.box.paths
    policy, worker = paths.state / "policy.json", paths.ticket_key.stat()
    stolen = message(target.witness("80"))
    rotate(paths, policy, worker.st_uid, worker.st_gid)
    assert target.send(message(target.witness("81"))) == ["tap undo"]  # the old key's grace
    rotate(paths, policy, worker.st_uid, worker.st_gid, grace_s=0)
    forgery.key = private_key(paths)
    assert target.send(stolen) == []
    assert target.audited("refused")[-1]["reason"] == "the ticket was not signed by this host's worker"
    assert target.send(message(target.witness("82"))) == ["tap undo"]


def test_the_audit_holds_after_all_this(target):
    eventually(lambda: target.published()["seq"] == str(len(list(entries(target.farm.box.paths.audit)))))
    head = target.published()
    verdict = verify(target.farm.box.paths.audit, Head(int(head["seq"]), head["hash"]))
    assert verdict.refused == int(head["refused"])


def test_the_command_line_tells_of_root_s_audit(target, monkeypatch, capsys):
    settings = target.farm.box.settings
    monkeypatch.setenv("BANGER_HOST", settings.host)
    monkeypatch.setenv("BANGER_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("BANGER_RUN_DIR", str(settings.run_dir))
    monkeypatch.setattr(forgery, "key", private_key(settings.paths))  # rotated meanwhile
    target.send(message(target.call, []))
    for words in (["audit", "verify"], ["audit", "log", "--refused", "-n", "3"], ["key", "list"]):
        assert main(words) == 0
    said, complained = capsys.readouterr()
    assert "are as root wrote them" in said
    assert "refused" in said
    assert "in use" in said
    assert "could not be asked" not in complained
