"""What there is to know of a batch, without its jobs, for whoever shows one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.batch.state import BatchInfo


def exit_code_of(info: BatchInfo) -> int | None:
    """Return what ``banger batch run`` ends with for this batch, None while it goes on."""
    from banger.batch.state import Verdict
    from banger.batch.verdict import exit_code

    if info.state != "ended":
        return None
    return exit_code(verdict for verdict in Verdict if info.counts.get(verdict, 0))


def batch_facts(info: BatchInfo) -> list[tuple[str, object]]:
    """Return what there is to know of a batch, without its jobs."""
    from banger.batch.verdict import headline

    facts: list[tuple[str, object]] = [
        ("Batch", info.id),
        ("Name", info.name),
        ("State", info.state),
        ("Image", f"{info.image} ({info.image_id})" if info.image_id else info.image),
        ("Submitted", f"{_when(info.created_at)} on {info.host}"),
        ("Jobs", headline(info)),
    ]
    if info.state == "ended":
        took = format_duration((info.ended_at or info.created_at) - info.created_at)
        facts.append(("Ended", f"{_when(info.ended_at or info.created_at)}, after {took}"))
        facts.append(("Exit code", exit_code_of(info)))
    else:
        facts.append(("At work", _at_work(info)))
        facts.append(("Ends", f"in {format_duration(info.deadline_at - time.time())}, done or not"))
    if info.why:
        facts.append(("Next waits", info.why))
    if info.reason:
        facts.append(("Cancelled", info.reason))
    return facts


def _at_work(info: BatchInfo) -> str:
    count = info.counts.get
    words = [f"{count(phase, 0)} {phase}" for phase in ("running", "starting", "waiting")]
    limit = f" ({info.parallel} at once)" if info.parallel else ""
    return ", ".join(words) + limit


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))
