"""The forged messages are real ones: with Celery's own strategy in the door's place, they run root's code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from farm_box import eventually
from farm_facts import steps
from forgery import Message, claims_of, message, of_protocol_1, starmap

from banger.connection import FarmRedis
from banger.contracts.broker import celery_settings
from banger.contracts.calls import StageCall
from banger.contracts.policy import Policy
from banger.contracts.tickets import Claims
from banger.pipelines import CREATE
from root_worker.audit import Audit
from root_worker.door import Door
from root_worker.ledger import Ledger

pytestmark = [
    pytest.mark.integration,
    # Celery's worker for tests leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

CALL = next(call for call in steps(CREATE) if call.stage == "tap")
NEVER = "9999-12-31T23:59:59-14:00"  # a date, until it is turned into the time here

# What a check in a signal or in the task's body lets through, or comes too late for.
FORGERIES: dict[str, Callable[[], Message]] = {
    "a forged call": lambda: message(CALL, [claims_of(CALL)]),
    "starmap of a task": lambda: message(CALL, [], starmap(CALL)["kwargs"], task="celery.starmap"),
    "map of a task": lambda: message(CALL, [], starmap(CALL, "celery.map")["kwargs"], task="celery.map"),
    "bad arguments with an errback": lambda: message(CALL, [1, 2], embed={"errbacks": [starmap(CALL)]}),
    "an impossible eta with an errback": lambda: message(
        CALL, [1], eta=NEVER, embed={"errbacks": [starmap(CALL)]}
    ),
    "protocol 1": lambda: of_protocol_1(CALL),
}


class Root:
    """A root worker of one task, which only says that it was run."""

    def __init__(self, url: str, directory: Path, *, guarded: bool) -> None:
        self.guarded = guarded
        self.ran: list[StageCall] = []
        self.app = Celery("root", backend=url, task_cls="root_worker.door:RootTask", set_as_current=False)
        self.app.conf.update(celery_settings(url))
        if guarded:
            self.app.conf.worker_consumer = "root_worker.consumer:RootConsumer"
        policy = Policy(host="here", state_dir=directory, run_dir=directory)
        ledger, self.audit = Ledger(directory / "tickets"), Audit(directory / "audit")
        self.app.conf.banger_door = Door(policy, tuple, ledger, self.audit)

        @self.app.task(name=CALL.task_name, shared=False)
        def tap(payload: dict[str, Any]) -> None:
            self.ran.append(Claims.model_validate(payload).call)

        if not guarded:
            for task in self.app.tasks.values():
                task.Strategy = "celery.worker.strategy:default"


@pytest.fixture(params=[False, True], ids=["without the door", "with the door"])
def root(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[Root]:
    root = Root(redis_url, tmp_path, guarded=request.param)
    with start_worker(
        root.app, pool="solo", perform_ping_check=False, queues=[CALL.queue], shutdown_timeout=30
    ):
        yield root
    root.app.close()


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_runs_without_the_door_is_refused_by_it(
    root: Root, redis_client: FarmRedis, forgery: str
) -> None:
    client: Any = redis_client
    client.lpush(CALL.queue, json.dumps(FORGERIES[forgery]()))
    if root.guarded:
        eventually(lambda: root.audit.refusals == 1)
        assert root.ran == []
    else:
        eventually(lambda: root.ran, deadline_s=5)
