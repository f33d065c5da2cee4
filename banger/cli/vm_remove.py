"""Removing VMs with all that they have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.session import session_of
from banger.cli.several import each
from banger.contracts.errors import InvalidInputError
from banger.contracts.states import State

if TYPE_CHECKING:
    from banger.events import Event
    from banger.farm import Farm

_PRUNED = (State.STOPPED, State.ERROR, State.LOST)


def delete(
    ctx: typer.Context,
    names: options.Refs,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="How long the guest may take to shut down.")
    ] = "0",
    quiet: options.Quiet = False,
) -> int:
    """Remove VMs with their disks. The guest is not asked, unless --timeout gives it time to shut down.

    A job that is still making the VM is cancelled first.

    \b
    Examples:
      banger vm delete dev
      banger vm delete web-1 web-2 --timeout 10s
    """
    timeout_s = options.duration(timeout) or 0.0
    return _delete_each(session_of(ctx).farm, names, timeout_s, quiet=quiet)


def prune(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: options.Quiet = False,
) -> int:
    """Delete all VMs that are stopped, in error or lost.

    \b
    Examples:
      banger vm prune --dry-run
      banger vm prune --yes
    """
    farm = session_of(ctx).farm
    # By id: a VM whose create failed has given its name back, and another may have it by now.
    doomed = {record.id: record.called for record in farm.list() if record.state in _PRUNED}
    if not doomed:
        typer.echo("There is nothing to prune.")
        return 0
    if dry_run:
        typer.echo("\n".join(doomed.values()))
        return 0
    if not yes and not sys.stdin.isatty():
        raise InvalidInputError(
            f"prune would delete {len(doomed)} VMs, and there is no terminal to ask on",
            details=", ".join(doomed.values()),
            resolution="Add --yes to delete them, or --dry-run to only see them.",
        )
    if not yes and not typer.confirm(f"Delete {', '.join(doomed.values())}?", err=True):
        return 1
    return _delete_each(farm, list(doomed), 0.0, quiet=quiet, names=doomed)


def _delete_each(
    farm: Farm,
    refs: Sequence[str],
    timeout_s: float,
    *,
    quiet: bool,
    names: Mapping[str, str] | None = None,
) -> int:
    def verb(ref: str, on_event: Callable[[Event], None]) -> str:
        farm.delete(ref, timeout_s, on_event)
        return "deleted"

    return each(refs, verb, quiet=quiet, names=names)
