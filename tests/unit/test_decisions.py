"""What reconcile decides about what it finds: one line a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from farm_facts import JOB, NETWORK, UID_BASE, VM, job, record, spec, steps

from banger.contracts.dm_snapshot import Overlay
from banger.contracts.inventory import Found, FoundVm, Inventory, Kind
from banger.contracts.states import State
from banger.findings import Action, Finding
from banger.pipelines import CREATE, DELETE, STOP
from banger.planning import calls
from banger.records import UNKNOWN, Record
from workers.decisions import Facts, decide, is_older
from workers.doubt import Doubt

NOW = 5000.0
OTHER = "fedcba987654"
ME, ROOT = "a" * 12, "b" * 12
BOOT = "this boot"


def inventory(*vms: FoundVm, at: float = NOW, **more: Any) -> Inventory:
    return Inventory(at=at, incarnation=ROOT, vms=vms, **more)


def found(
    vm_id: str = VM, *, alive: bool = True, generation: int = 1, overlay: Overlay | None = None
) -> FoundVm:
    return FoundVm(vm_id=vm_id, generation=generation, slot=5, alive=alive, overlay=overlay)


UNKEPT = found().model_copy(update={"kept": False})


def stray(kind: Kind = "tap", vm_id: str | None = OTHER, slot: int | None = None) -> Found:
    return Found(kind=kind, name=f"bgr-{vm_id}", vm_id=vm_id, slot=slot)


def at_rest(state: State, **changes: Any) -> Record:
    return record(**({"state": state, "job": None, "rev": 2} | changes))


def facts(*records: Record, seen: Inventory | None = None, **more: Any) -> Facts:
    return Facts(
        **(
            {
                "now": NOW,
                "records": {one.id: one for one in records},
                "directories": [one.id for one in records],
                "inventory": seen if seen is not None else inventory(),
                "living": {ME, ROOT},
            }
            | more
        )
    )


def busy(pipeline: Any = CREATE, *, touched_s: float = NOW, holder: str = "", **changes: Any) -> Facts:
    """Return the facts of a VM that a job has, with a claim of this incarnation."""
    marks = {"05": f"{holder}{'0' * 12}|{int((NOW + 60) * 1000)}|1"} if holder else {}
    going_on = job(pipeline, touched_ms=int(touched_s * 1000), steps=marks)
    return facts(record(state=pipeline.during, **changes), jobs={JOB: going_on})


def waiting(*, alive: bool = False, generation: int = 1, ready: str = "", **changes: Any) -> Facts:
    """Return the facts of a VM that was launched, and whose guest is waited for, by this incarnation."""
    claim = f"{ME}{'0' * 12}|{int((NOW + 600) * 1000)}|1"
    marks = {one.step: "done" for one in steps(CREATE) if one.stage not in ("wait_ready", "file_sync")}
    (wait,) = [one.step for one in steps(CREATE) if one.stage == "wait_ready"]
    going_on = job(CREATE, **({"boot": BOOT, "touched_ms": int(NOW * 1000)} | changes))
    going_on = going_on.model_copy(update={"steps": marks | {wait: ready or claim}})
    return facts(
        record(generation=generation), jobs={JOB: going_on}, boot=BOOT, seen=inventory(found(alive=alive))
    )


Case = tuple[str, Callable[[], Facts], list[tuple[Action, bool]]]

RUNNING, STOPPED, ERROR = State.RUNNING, State.STOPPED, State.ERROR
EXPIRED = {"spec": spec(ttl_s=10), "created_at": NOW - 100}
TO_GO = {"error": {"pipeline": "delete"}}
ADOPTED = at_rest(ERROR, image=UNKNOWN)
SWEPT = at_rest(ERROR, image=UNKNOWN, error={"pipeline": "sweep"})

CASES: list[Case] = [
    ("alive, and the record says so", lambda: facts(at_rest(RUNNING), seen=inventory(found())), []),
    ("stopped, and dead", lambda: facts(at_rest(STOPPED), seen=inventory(found(alive=False))), []),
    ("in error, whatever lives", lambda: facts(at_rest(ERROR), seen=inventory(found())), []),
    (
        "the VMM of a running one is gone",
        lambda: facts(at_rest(RUNNING), seen=inventory(found(alive=False))),
        [(Action.KILL, False)],
    ),
    (
        "its system disk fills up",
        lambda: facts(at_rest(RUNNING), seen=inventory(found(overlay=Overlay(percent=99)))),
        [],
    ),
    (
        "its system disk is full",
        lambda: facts(at_rest(RUNNING), seen=inventory(found(overlay=Overlay(percent=100, state="full")))),
        [(Action.RENEW, False)],
    ),
    (
        "its system disk is invalid",
        lambda: facts(at_rest(RUNNING), seen=inventory(found(overlay=Overlay(percent=100, state="invalid")))),
        [(Action.RENEW, False)],
    ),
    (
        "its keeper has died",
        lambda: facts(at_rest(RUNNING), seen=inventory(UNKEPT)),
        [(Action.NONE, False)],
    ),
    (
        "its keeper has died, and its time is over",
        lambda: facts(at_rest(RUNNING, **EXPIRED), seen=inventory(UNKEPT)),
        [(Action.DELETE, True)],
    ),
    (
        "what lives is of an earlier start",
        lambda: facts(at_rest(RUNNING, generation=2), seen=inventory(found(generation=1))),
        [(Action.KILL, False)],
    ),
    (
        "what lives is of a later start",
        lambda: facts(at_rest(RUNNING, generation=1), seen=inventory(found(generation=2))),
        [(Action.RESTORE, False)],
    ),
    (
        "a later start than Redis knows has died",
        lambda: facts(at_rest(STOPPED, generation=1), seen=inventory(found(generation=2, alive=False))),
        [(Action.RESTORE, False)],
    ),
    (
        "a stopped one lives",
        lambda: facts(at_rest(STOPPED), seen=inventory(found())),
        [(Action.RESTORE, False)],
    ),
    ("its host has nothing of it", lambda: facts(at_rest(STOPPED), directories=()), [(Action.LOSE, False)]),
    (
        "its directory is gone, root has it",
        lambda: facts(at_rest(STOPPED), directories=(), seen=inventory(found(alive=False))),
        [(Action.NONE, False)],
    ),
    (
        "its directory is gone while it runs",
        lambda: facts(at_rest(RUNNING), directories=(), seen=inventory(found())),
        [(Action.NONE, False)],
    ),
    (
        "a failed create has left something",
        lambda: facts(at_rest(ERROR, slot=None)),
        [(Action.DELETE, False)],
    ),
    ("a failed create has left nothing", lambda: facts(at_rest(ERROR, slot=None), directories=()), []),
    (
        "what was lost is there again",
        lambda: facts(at_rest(State.LOST, slot=None), intents={VM: at_rest(STOPPED, rev=1)}),
        [(Action.RESTORE, False)],
    ),
    (
        "files of a lost one are there again, and nothing tells what it was",
        lambda: facts(at_rest(State.LOST, slot=None)),
        [(Action.NONE, True)],
    ),
    (
        "root has forgotten one that runs",
        lambda: facts(at_rest(RUNNING), seen=inventory(strays=(stray("process", VM, 5),))),
        [(Action.NONE, True)],
    ),
    # --- with a job
    ("a job goes on", lambda: busy(), []),
    ("a step is at it", lambda: busy(touched_s=NOW - 99, holder=ME), []),
    ("root is at it", lambda: busy(touched_s=NOW - 99, holder=ROOT), []),
    ("its worker has died", lambda: busy(touched_s=NOW - 99, holder="c" * 12), [(Action.RING, True)]),
    ("its message is lost", lambda: busy(touched_s=NOW - 31), [(Action.RING, True)]),
    ("its guest boots", lambda: waiting(alive=True), []),
    ("its VMM dies while its guest boots", lambda: waiting(), [(Action.FAIL, False)]),
    ("its VMM is gone, and its guest was ready", lambda: waiting(ready="done"), []),
    ("its VMM is an earlier start's, of which root tells", lambda: waiting(generation=2), []),
    ("what was launched is being taken back", lambda: waiting(state="unwinding"), []),
    (
        "its host was rebooted while its guest booted",
        lambda: waiting(boot="the one before"),
        [(Action.RING, True)],
    ),
    (
        "its host was rebooted while what it did was taken back",
        lambda: waiting(boot="the one before", state="unwinding"),
        [],
    ),
    ("its time is over while it is made", lambda: busy(**EXPIRED), [(Action.CANCEL, True)]),
    ("its time is over while it is stopped", lambda: busy(STOP, **EXPIRED), []),
    (
        "Redis has forgotten its job",
        lambda: facts(record(state=State.STARTING)),
        [(Action.RESTORE, False)],
    ),
    # --- time
    ("its time is over", lambda: facts(at_rest(RUNNING, **EXPIRED)), [(Action.DELETE, True)]),
    ("its time is over, a delete has just failed", lambda: facts(at_rest(ERROR, **EXPIRED)), []),
    (
        "its time is over, a delete has failed a while ago",
        lambda: facts(at_rest(ERROR, **EXPIRED), quiet_s={VM: 601.0}),
        [(Action.DELETE, True)],
    ),
    (
        "a delete has failed a while ago",
        lambda: facts(at_rest(ERROR, **TO_GO), quiet_s={VM: 601.0}),
        [(Action.DELETE, True)],
    ),
    (
        "its batch has no use for it",
        lambda: facts(at_rest(RUNNING), seen=inventory(found()), over={VM}),
        [(Action.DELETE, True)],
    ),
    (
        "its batch has no use for it, and a delete failed a moment ago",
        lambda: facts(at_rest(ERROR), over={VM}, quiet_s={VM: 1.0}),
        [],
    ),
    ("a start has failed a while ago", lambda: facts(at_rest(ERROR), quiet_s={VM: 601.0}), []),
    # --- an older copy
    (
        "the host remembers more than Redis",
        lambda: facts(at_rest(RUNNING), intents={VM: at_rest(STOPPED, rev=4)}, seen=inventory(found())),
        [(Action.RESTORE, False)],
    ),
    (
        "the host remembers more than Redis, which still has a job",
        lambda: facts(
            record(state=State.CREATING, rev=1),
            jobs={JOB: job(CREATE)},
            intents={VM: at_rest(RUNNING, rev=2)},
            last_steps={VM: ("10",)},
        ),
        [(Action.RESTORE, False)],
    ),
    # --- without a record
    (
        "Redis has no record of it",
        lambda: facts(intents={OTHER: at_rest(RUNNING, id=OTHER)}),
        [(Action.RESTORE, False)],
    ),
    ("root alone knows it", lambda: facts(seen=inventory(found(OTHER))), [(Action.RESTORE, False)]),
    ("a directory of nobody's", lambda: facts(directories=(OTHER,)), [(Action.RESTORE, False)]),
    ("a directory half removed", lambda: facts(removed=(OTHER,)), [(Action.CLEAR, False)]),
    (
        "a directory whose intent file tells nothing",
        lambda: facts(directories=(OTHER,), unclear=(OTHER,)),
        [(Action.RESTORE, False)],
    ),
    (
        "a record of such a one",
        lambda: facts(at_rest(ERROR, slot=None, image=UNKNOWN), unclear=(VM,)),
        [(Action.NONE, True)],
    ),
    (
        "a stray of a VM whose files are there",
        lambda: facts(directories=(OTHER,), others={OTHER}, seen=inventory(strays=(stray(),))),
        [(Action.NONE, True)],
    ),
    ("a VM of another host", lambda: facts(others={OTHER}, directories=(OTHER,)), []),
    ("a stray", lambda: facts(seen=inventory(strays=(stray(),))), [(Action.SWEEP, False)]),
    (
        "two strays of one VM",
        lambda: facts(seen=inventory(strays=(stray(), stray("jail")))),
        [(Action.SWEEP, False)],
    ),
    (
        "a process of a slot of nobody's",
        lambda: facts(seen=inventory(strays=(stray("process", None, 9),))),
        [(Action.SWEEP, False)],
    ),
    (
        "a process of nobody's under the uid of a VM's slot",
        lambda: facts(at_rest(STOPPED, slot=9), seen=inventory(strays=(stray("process", OTHER, 9),))),
        [(Action.NONE, True)],
    ),
    (
        "a tap of nobody's for the uid of a VM's slot: it is removed by its name",
        lambda: facts(at_rest(STOPPED, slot=9), seen=inventory(strays=(stray("tap", OTHER, 9),))),
        [(Action.SWEEP, False)],
    ),
    (
        "a stray whose worker died before its sweep began",
        lambda: facts(ADOPTED, directories=(), seen=inventory(strays=(stray("tap", VM),))),
        [(Action.SWEEP, False)],
    ),
    (
        "a stray whose sweep has just failed",
        lambda: facts(SWEPT, directories=(), seen=inventory(strays=(stray("tap", VM),))),
        [],
    ),
    (
        "a stray whose sweep failed long ago",
        lambda: facts(SWEPT, directories=(), quiet_s={VM: 700.0}, seen=inventory(strays=(stray("tap", VM),))),
        [(Action.SWEEP, False)],
    ),
    (
        "a stray that tells nothing",
        lambda: facts(seen=inventory(strays=(stray("filter", None),))),
        [(Action.NONE, True)],
    ),
    (
        "what only looks like ours",
        lambda: facts(seen=inventory(foreign=(stray("dm", None),))),
        [(Action.NONE, True)],
    ),
]


@pytest.mark.parametrize(("what", "given", "expected"), CASES, ids=[case[0] for case in CASES])
def test_each_case_has_its_answer(
    what: str, given: Callable[[], Facts], expected: list[tuple[Action, bool]]
) -> None:
    assert [(one.action, one.sure) for one in decide(given())] == expected


@pytest.mark.parametrize(
    "seen", [None, {"unreadable": ("filter: nft does not answer",)}], ids=["nothing", "not all"]
)
@pytest.mark.parametrize(("what", "given", "_expected"), CASES, ids=[case[0] for case in CASES])
def test_where_root_cannot_tell_nothing_is_removed(
    what: str, given: Callable[[], Facts], _expected: object, seen: dict[str, Any] | None
) -> None:
    known = given()
    blind = known.inventory.model_copy(update=seen) if seen and known.inventory else None
    findings = decide(replace(known, inventory=blind))
    harmless = {Action.NONE, Action.RING, Action.CANCEL}
    wished = any(words in what for words in ("delete has failed", "time is over", "no use for it"))
    asked_for = {Action.DELETE} if wished else set()
    assert {finding.action for finding in findings} <= harmless | asked_for
    assert any("nothing is removed" in finding.what for finding in findings)


def test_the_intent_that_a_last_step_writes_ahead_of_its_report_is_not_younger() -> None:
    last = steps(CREATE)[-1].step
    going_on = job(CREATE, steps={last: f"{'a' * 24}|1|1"})
    written = at_rest(RUNNING, rev=2)
    assert not is_older(record(rev=1), going_on, written, (last,))
    assert is_older(record(rev=1), job(CREATE), written, (last,))
    assert is_older(record(rev=1), going_on, written.model_copy(update={"rev": 3}), (last,))
    assert not is_older(record(rev=2), going_on, written, (last,))
    assert not is_older(record(rev=2), None, None, ())
    unwound = job(CREATE, state="unwinding", steps={last: "failed"})
    assert not is_older(record(rev=1), unwound, written, (last, "u05")), "it came back too late"


def test_a_delete_has_a_last_step_without_a_slot_too() -> None:
    gone = record(state=State.DELETING, slot=None)
    assert calls(DELETE, gone, job(DELETE), NETWORK, UID_BASE)[-1].final == "gone"


def test_what_is_not_sure_is_believed_when_it_is_still_there_some_seconds_later() -> None:
    doubt, finding = Doubt(), Finding(vm_id=VM, what="it is gone", action=Action.KILL, sure=False)

    def settle(at: float, *findings: Finding, strays_at: float | None = None) -> list[bool]:
        seen = inventory(at=at, objects_at=at if strays_at is None else strays_at)
        return [one.sure for one in doubt.settle(list(findings), seen)]

    assert settle(100, finding) == [False]
    assert settle(104, finding) == [False]
    assert settle(105, finding) == [True]
    assert settle(106) == []
    assert settle(107, finding) == [False], "it was not there in between"
    later = finding.model_copy(update={"rev": 3})
    assert settle(113, later) == [False], "its record has changed meanwhile"
    assert settle(90, later) == [False], "the clock was set back"
    assert settle(95, later) == [True]
    stray = finding.model_copy(update={"action": Action.SWEEP})
    assert settle(120, stray, strays_at=115) == [False]
    assert settle(126, stray, strays_at=115) == [False], "root has not looked again"
    assert settle(128, stray, strays_at=125) == [True]


@pytest.mark.parametrize(
    ("rebooted", "autostart", "action"),
    [
        (True, True, Action.RESTART),
        (True, False, Action.KILL),
        (False, True, Action.KILL),  # its guest has powered it off
    ],
)
def test_what_ran_before_a_reboot_is_booted_again_where_that_was_asked_for(
    rebooted: bool, autostart: bool, action: Action
) -> None:
    ran = at_rest(State.RUNNING, spec=spec(autostart=autostart))
    (finding,) = decide(facts(ran, seen=inventory(found(alive=False)), rebooted=rebooted))
    assert (finding.action, finding.sure) == (action, False)


@pytest.mark.parametrize("seen", [None, inventory(found(alive=False), unreadable=("tap: EPERM",))])
def test_after_a_reboot_nothing_is_begun_before_root_can_tell_all(seen: Inventory | None) -> None:
    ran = at_rest(State.RUNNING, spec=spec(autostart=True))
    findings = decide(replace(facts(ran, rebooted=True), inventory=seen))
    assert {finding.action for finding in findings} == {Action.NONE}


def test_what_was_stopped_stays_so_after_a_reboot() -> None:
    rests = at_rest(State.STOPPED, spec=spec(autostart=True))
    assert decide(facts(rests, seen=inventory(found(alive=False)), rebooted=True)) == []
