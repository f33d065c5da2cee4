"""The table of states and the pipelines say the same, and no state is a trap."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from banger.contracts.states import MOVE, TRANSITIONS, State, Transition
from banger.pipelines import PIPELINES, Pipeline

OUTSIDE_PIPELINES = ("lose", "restore", "expire")  # the record's host knows better, or its time is over


def changes_of(pipeline: Pipeline) -> Iterator[Transition]:
    """Yield each change of state that a pipeline can bring about."""
    for before in pipeline.before:
        yield Transition("begin", before, pipeline.during)
    if not pipeline.before:
        yield Transition("reserve", State.GONE, pipeline.during)
    ends = {pipeline.after} | {state for row in pipeline.rows if (state := pipeline.fails_to(row))}
    if pipeline.unwinding:
        ends.add(State.ERROR)
    if "reserve" in pipeline.unwinding:
        ends.add(State.GONE)  # cancelled, or a VM for one command
    for after in ends:
        yield Transition("settle", pipeline.during, after)


def reached_from(state: State) -> set[State]:
    seen, ahead = {state}, [state]
    while ahead:
        here = ahead.pop()
        after = {change.after for change in TRANSITIONS if change.before is here} - seen
        seen |= after
        ahead += after
    return seen


def test_what_pipelines_do_is_legal_and_what_is_legal_some_pipeline_does() -> None:
    done = {change for pipeline in PIPELINES.values() for change in changes_of(pipeline)}
    assert done == {change for change in TRANSITIONS if change.cause not in OUTSIDE_PIPELINES}


def test_what_no_pipeline_does_has_one_of_three_reasons() -> None:
    others = {change.cause for change in TRANSITIONS} - {"reserve", "begin", "settle"}
    assert others == set(OUTSIDE_PIPELINES)


def test_every_state_can_be_reached_and_left_for_good() -> None:
    assert reached_from(State.GONE) == set(State)
    for state in State:
        assert State.GONE in reached_from(state)


def test_every_state_can_be_left_for_good_without_waiting_and_without_being_restored() -> None:
    legal = {change for change in TRANSITIONS if change.cause not in ("expire", "restore")}
    out = {State.GONE}
    while more := {change.before for change in legal if change.after in out} - out:
        out |= more
    assert out == set(State)


def test_each_cause_leads_a_state_somewhere_else() -> None:
    unchanged = {change for change in TRANSITIONS if change.before is change.after}
    assert {change.cause for change in unchanged} == {"restore"}  # the host's copy of the same state


def test_what_is_lost_can_only_be_deleted_or_found_again() -> None:
    assert {(c.cause, c.after) for c in TRANSITIONS if c.before is State.LOST} == {
        ("begin", State.DELETING),
        ("expire", State.GONE),
        *(("restore", state) for state in (State.RUNNING, State.STOPPED, State.ERROR)),
    }


def test_the_diagram_in_the_documentation_is_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    drawn = re.findall(r"^    (\S+) --> ([^\s:]+)", text[text.index("stateDiagram") :], re.MULTILINE)
    states = [tuple(State.GONE if word == "[*]" else State(word) for word in pair) for pair in drawn]
    assert len(states) == len(set(states))
    assert set(states) == {(c.before, c.after) for c in TRANSITIONS if c.cause not in ("lose", "restore")}


def test_no_script_writes_a_state_but_by_the_table() -> None:
    root = Path(__file__).parents[2]
    files = [
        file for package in ("banger", "workers", "root_worker") for file in (root / package).rglob("*.py")
    ]
    writers = {file.stem for file in files if "'HSET', vm, 'state'" in file.read_text()}
    assert writers == {"states"}


def test_the_script_knows_each_legal_change_and_no_other() -> None:
    known = set(MOVE[MOVE.index("{") + 1 : MOVE.index("}")].split(", "))
    assert known == {f"['{cause} {before} {after}']=true" for cause, before, after in TRANSITIONS}
