"""What orders that no CLI writes get somebody with its password: a refusal, and a worker that goes on."""

from __future__ import annotations

from typing import Any

import pytest
from farm_box import eventually
from faulty_farm import FaultyFarm

from banger.contracts.broker import Role
from banger.contracts.names import is_id, new_id
from banger.contracts.queues import BEGIN, CONTROL, RESERVE, UNWIND, work_queue
from banger.dispatch import celery_app
from banger.events import Events

pytestmark = pytest.mark.integration

ROLE: Role = "cli"
PATHS = [
    "../../../etc",
    "/etc/passwd",
    "0123456789ab/../..",
    "-rf",
    "%s%n",
    "$(id)",
    "x" * 5000,
    "0123456789AB",
    "",
]


def order(**changes: Any) -> dict[str, Any]:
    """Return the order of a VM, right in all but what is changed."""
    spec = {"name": f"v{new_id()}", "image": "micro"} | changes.pop("spec", {})
    return {
        "vm": new_id(),
        "job": new_id(),
        "pipeline": "create-stopped",
        "spec": spec,
        "params": {},
    } | changes


HOSTILE: dict[str, dict[str, Any]] = {
    **{f"a VM id like {text[:20]!r}": order(vm=text) for text in PATHS},
    **{f"a job id like {text[:20]!r}": order(job=text) for text in PATHS},
    **{f"a name like {text[:20]!r}": order(spec={"name": text}) for text in PATHS if text != "0123456789ab"},
    **{
        f"a label's key like {text[:20]!r}": order(spec={"labels": {text: "x"}})
        for text in ("", "../x", "a\nb")
    },
    **{
        f"a label's value like {text[:20]!r}": order(spec={"labels": {"k": text}})
        for text in ("%n\n", "x" * 99)
    },
    "an image like a path": order(spec={"image": "../../../etc"}),
    "a DNS server that is two lines": order(spec={"dns": "1.1.1.1\nnameserver 6.6.6.6"}),
    "more memory than anybody has": order(spec={"memory_mib": 1 << 60}),
    "a field that nobody knows": order(spec={"boot_args": "init=/bin/sh"}),
    "a pipeline that nobody knows": order(pipeline="__class__"),
    "parameters that nobody knows": order(params={"env": {"LD_PRELOAD": "x"}}),
    "a run without a command": order(pipeline="run"),
    "a command of a million words": order(pipeline="run", params={"argv": ["x"] * 1_000_000, "timeout_s": 1}),
    "a signal that is none": order(pipeline="kill", params={"signal": "; reboot"}),
    "no order at all": {"vm": [1], "job": None},
}


@pytest.fixture
def app(faulty: FaultyFarm) -> Any:
    app = celery_app("attacker", faulty.box.url(ROLE))
    yield app
    app.close()


def test_hostile_orders_are_refused_and_leave_nothing(faulty: FaultyFarm, app: Any) -> None:
    box, right = faulty.box, order()
    worker, work = box.pid("worker"), work_queue(box.settings.host)
    for wrong in HOSTILE.values():
        app.send_task(BEGIN, args=[wrong], queue=work)
        app.send_task(UNWIND, args=[wrong], queue=work)
        app.send_task(RESERVE, args=[wrong], queue=CONTROL)
    app.send_task(RESERVE, args=[right], queue=CONTROL)
    eventually(lambda: any(event.kind == "settled" for event in Events(box.admin.redis).read(right["vm"])))
    box.farm.delete(right["vm"])
    assert box.pid("worker") == worker
    assert not box.traces()
    for name, wrong in HOSTILE.items():
        assert box.admin.job(str(wrong["job"])) is None, name
        assert box.admin.get(str(wrong["vm"])) is None, name
        if is_id(str(wrong["vm"])) and is_id(str(wrong["job"])):
            told = {event.kind for event in Events(box.admin.redis).read(wrong["vm"])}
            assert told == {"refused"}, name


def test_who_asks_wrongly_is_told(faulty: FaultyFarm, app: Any) -> None:
    box, wrong = faulty.box, order(spec={"memory_mib": 1})
    app.send_task(RESERVE, args=[wrong], queue=CONTROL)
    (event,) = eventually(lambda: Events(box.admin.redis).read(wrong["vm"]))
    assert event.kind == "refused"
    assert "spec.memory_mib" in event.error["details"]
