"""A VM's timeline as a table: for each job its stages, where they ran, when they began, how long it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from banger.cli.columns import columns
from banger.cli.progress import outcome, title
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.events import Event

_HEADING = ("STAGE", "QUEUE", "AT", "TOOK", "")


def timeline_text(events: Sequence[Event]) -> str:
    """Return what happened to a VM, oldest job first; events of one job come together, others alone."""
    keys = list(dict.fromkeys(map(_key, events)))
    ordered = sorted(events, key=lambda event: keys.index(_key(event)))
    return "\n\n".join(_text(list(group)) for _, group in groupby(ordered, key=_key))


def _key(event: Event) -> str:
    return event.job if event.pipeline else event.id


def _text(events: list[Event]) -> str:
    first = events[0]
    if first.pipeline:
        return _job_text(events)
    return f"{first.kind} ({_when(first.at)})\n{(first.error or {}).get('brief', '')}"


def _job_text(events: list[Event]) -> str:
    first, last = events[0], events[-1]
    why = next(
        (f"because {(event.error or {}).get('brief')}" for event in events if event.kind == "found"), ""
    )
    again = "all of it once more: its host was rebooted" * any(event.kind == "rebooted" for event in events)
    began = min(_began(event) for event in events)
    ended = [event for event in events if event.kind in ("finished", "failed")]
    known = {(event.stage, event.direction, event.unwinding) for event in ended}
    # A stage that was begun and is not over: at work now, or its worker died in it.
    open_ = [
        event
        for event in events
        if event.kind == "started" and (event.stage, event.direction, event.unwinding) not in known
    ]
    rows = [_cells(event, began) for event in sorted([*ended, *open_], key=_began)]
    table = columns(_HEADING, rows) if rows else ""
    in_stages = format_duration(sum(event.ms or 0.0 for event in ended) / 1000)
    total = f"total {format_duration(last.at - began)}, of which {in_stages} in stages"
    how = (
        f" -> {last.state}" if last.kind == "settled" else f": {last.kind}" if last.kind == "refused" else ""
    )
    return "\n".join(
        part
        for part in (f"{first.pipeline}{how} ({_when(began)}, job {first.job})", why, again, table, total)
        if part
    )


def _cells(event: Event, began: float) -> tuple[object, ...]:
    remark = "unwinding" if event.unwinding else ""
    if event.kind == "failed":
        brief = (event.error or {}).get("brief", "")
        remark = f"{remark} {outcome(event)}: {brief}".strip()
    elif event.kind == "started":
        remark = f"{remark} not over".strip()
    took = "" if event.ms is None else format_duration(event.ms / 1000)
    return title(event), event.queue, f"{_began(event) - began:.3f}s", took, remark or "ok"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _began(event: Event) -> float:
    return event.at - (event.ms or 0.0) / 1000
