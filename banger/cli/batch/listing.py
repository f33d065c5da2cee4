"""``banger batch list``: those that go on, then the youngest that have ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import options
from banger.cli.batch.facts import exit_code_of
from banger.cli.columns import columns, print_json
from banger.cli.session import session_of
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.batch.state import BatchInfo

_HEADING = ("BATCH", "NAME", "STATE", "DONE", "IMAGE", "AGE", "OUTCOME")
_ENDED_SHOWN = 20


def list_(
    ctx: typer.Context,
    all_: Annotated[
        bool, typer.Option("--all", "-a", help=f"All that ended within a week, not only {_ENDED_SHOWN}.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """List batches, first those that go on.

    \b
    Examples:
      banger batch list
      banger batch list --all --json
    """
    known = session_of(ctx).farm.batches.store.all()[::-1]
    ended = [info for info in known if info.state == "ended"]
    shown = [info for info in known if info.state != "ended"] + ended[: None if all_ else _ENDED_SHOWN]
    if as_json:
        print_json([_json(info) for info in shown])
        return 0
    typer.echo(columns(_HEADING, [_cells(info) for info in shown]))
    if left_out := len(known) - len(shown):
        typer.echo(f"banger: {left_out} older ones are left out; --all shows them", err=True)
    return 0


def _json(info: BatchInfo) -> dict[str, Any]:
    return info.model_dump(mode="json") | {"exit_code": exit_code_of(info)}


def _cells(info: BatchInfo) -> tuple[object, ...]:
    from banger.batch.verdict import headline

    done = f"{info.done}/{info.total}"
    age = format_duration(time.time() - info.created_at)
    return info.id, info.name, info.state, done, info.image, age, headline(info)
