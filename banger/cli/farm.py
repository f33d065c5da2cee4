"""The group ``banger farm``: the farm on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.columns import columns, print_json
from banger.cli.failure import printable
from banger.cli.group import command, group
from banger.cli.session import session_of
from banger.contracts.durations import format_duration
from banger.contracts.json_lines import readable

if TYPE_CHECKING:
    from banger.embedded.plan import FarmStatus

app = group("The farm on this machine: Redis, both workers, Flower and a name server.")


@command(app, "up")
def up(
    ctx: typer.Context,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Supervise from this terminal, until Ctrl-C.")
    ] = False,
) -> int:
    """Start the farm and wait until it is ready. Needs root. Where it runs already, nothing changes.

    With BANGER_REDIS_URL set, that Redis is used and none is started.

    \b
    Examples:
      sudo banger farm up
    """
    from banger.embedded import control

    status = control.up(
        session_of(ctx).settings, foreground=foreground, progress=lambda line: typer.echo(line, err=True)
    )
    if not foreground:
        typer.echo(_table(status))
    return 0


@command(app, "status")
def status_(ctx: typer.Context, as_json: options.Json = False) -> int:
    """Show the farm's services. Ends with 3 unless all of them run.

    \b
    Examples:
      banger farm status
      banger farm status --json
    """
    from banger.embedded import control

    status = control.status(session_of(ctx).settings)
    if as_json:
        print_json(status.model_dump(mode="json") | {"ready": status.ready})
    elif status.pid is None:
        typer.echo("The farm is not running. `banger farm up` starts it.")
    else:
        typer.echo(_table(status))
    return 0 if status.ready else 3


@command(app, "logs")
def logs(
    ctx: typer.Context,
    service: Annotated[
        str | None,
        typer.Argument(metavar="SERVICE", help="redis, worker, root-worker, flower, dns, supervisor."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> int:
    """Print the services' logs. Needs root.

    \b
    Examples:
      sudo banger farm logs root-worker
      sudo banger farm logs -f
    """
    from banger.embedded import control

    for line in control.logs(session_of(ctx).settings, service, follow=follow):
        text = readable(line.text) if service else f"{line.service:<12} {readable(line.text)}"
        typer.echo(printable(text))
    return 0


@command(app, "down")
def down(ctx: typer.Context) -> int:
    """Stop the farm. The VMs go on, and are there again after the next start. Needs root.

    \b
    Examples:
      sudo banger farm down
    """
    from banger.embedded import control

    stopped = control.down(session_of(ctx).settings)
    typer.echo("The farm is stopped; its VMs go on." if stopped else "The farm was not running.")
    return 0


def _table(status: FarmStatus) -> str:
    rows = [
        (
            one.name,
            one.state,
            one.pid or "",
            format_duration(time.time() - one.since.timestamp()) if one.since else "",
            one.restarts,
            one.user,
            one.serves,
        )
        for one in status.services
    ]
    return columns(("SERVICE", "STATE", "PID", "SINCE", "RESTARTS", "USER", "SERVES"), rows)
