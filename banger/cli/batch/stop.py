"""What ends batches: ``cancel`` stops one, ``prune`` forgets those that have ended."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.batch.refs import BatchRef
from banger.cli.session import session_of
from banger.cli.several import each
from banger.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from banger.batch.client import BatchClient
    from banger.batch.state import BatchInfo
    from banger.events import Event
    from banger.records import Record


def cancel(
    ctx: typer.Context,
    batch: BatchRef,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all of it has ended, or only ask.")
    ] = False,
) -> int:
    """Stop a batch, and undo what is at work.

    Jobs that have ended keep their verdicts, and what they left.

    \b
    Examples:
      banger batch cancel last
      banger batch cancel unit-tests --wait
    """
    from banger.batch.verdict import headline

    batches = session_of(ctx).farm.batches
    info = batches.store.find(batch)
    after = batches.store.last_event(info.id)
    batches.cancel(info.id)
    if not wait:
        typer.echo(f"{info.id}: asked to stop")
        return 0
    _await_end(batches, info.id, after)
    typer.echo(f"{info.id}: {headline(batches.store.find(info.id))}")
    return 0


def prune(
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Only what ended at least so long ago.")
    ] = "1d",
    all_: Annotated[bool, typer.Option("--all", "-a", help="All that have ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be forgotten.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Forget batches that have ended.

    Their logs and artifacts go from all hosts, and VMs that they kept are deleted.

    A batch that has ended is forgotten after a week in any case.

    \b
    Examples:
      banger batch prune --dry-run
      banger batch prune --older-than 2h --yes
      banger batch prune --all
    """
    farm = session_of(ctx).farm
    age_s = options.duration(older_than, "--older-than") or 0.0
    before = math.inf if all_ else time.time() - age_s
    doomed = {info.id: f"{info.id} ({info.name})" for info in _ended(farm.batches.store.all(), before)}
    if not doomed:
        typer.echo("There is nothing to prune.")
        return 0
    kept = [record for record in farm.list() if record.spec.labels.get("batch") in doomed]
    if dry_run:
        typer.echo("\n".join([*doomed.values(), *(f"VM {record.name}" for record in kept)]))
        return 0
    what = _words(doomed.values(), kept)
    if not yes and not sys.stdin.isatty():
        raise InvalidInputError(
            f"prune would forget {len(doomed)} batches, and there is no terminal to ask on",
            details=what,
            resolution="Add --yes to forget them, or --dry-run to only see them.",
        )
    if not yes and not typer.confirm(f"Forget {what}?", err=True):
        return 1

    def forget(ref: str, on_event: Callable[[Event], None]) -> str:
        if ref not in doomed:
            farm.delete(ref, on_event=on_event)
            return "deleted"
        farm.batches.forget(ref)
        return "forgotten"

    names = doomed | {record.id: f"VM {record.name}" for record in kept}
    if kept and (code := each([record.id for record in kept], forget, quiet=True, names=names)):
        return code  # what has VMs still is not forgotten: it is how they are found
    return each([*doomed], forget, quiet=True, names=names)


def _await_end(batches: BatchClient, batch: str, after: str) -> None:
    for _ in batches.follow(batch, after):
        pass


def _ended(known: Iterable[BatchInfo], before: float) -> list[BatchInfo]:
    """Return the batches that had ended by then (epoch seconds)."""
    return [info for info in known if info.state == "ended" and (info.ended_at or 0.0) <= before]


def _words(batches: Iterable[str], kept: Iterable[Record]) -> str:
    names = ", ".join(batches)
    vms = ", ".join(record.name for record in kept)
    return f"{names}, and delete the VMs {vms}" if vms else names
