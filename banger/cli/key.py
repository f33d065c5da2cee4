"""The group ``banger key``: the key that seals what this host's worker asks of root."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.columns import columns, print_json
from banger.cli.group import command, group
from banger.cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from banger.contracts.tickets import TicketKey

app = group("The key that seals what this host's worker asks of root.")


@command(app, "list")
def list_(ctx: typer.Context, as_json: options.Json = False) -> int:
    """List the public keys that root trusts.

    \b
    Examples:
      banger key list
    """
    from banger.embedded.paths import farm_paths
    from banger.ticket_keys import read_policy

    _print(read_policy(farm_paths(session_of(ctx).settings).policy).ticket_keys, as_json=as_json)
    return 0


@command(app, "rotate")
def rotate(
    ctx: typer.Context,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="How long root trusts the key before.")
    ] = "25h",
    as_json: options.Json = False,
) -> int:
    """Make a new key. It is used at once, no service is restarted, and no VM notices. Needs root.

    What the old key has sealed may be under way for 25 hours, with a command that runs for a day. After a
    theft, `--grace 1s` ends it now: jobs that are under way are sealed again within a minute.

    \b
    Examples:
      sudo banger key rotate
      sudo banger key rotate --grace 1s
    """
    from banger.contracts.durations import parse_duration
    from banger.embedded.account import worker_account
    from banger.embedded.paths import farm_paths
    from banger.ticket_keys import rotate as rotate_pair

    settings = session_of(ctx).settings
    account, policy = worker_account(settings), farm_paths(settings).policy
    keys = rotate_pair(settings.paths, policy, account.pw_uid, account.pw_gid, parse_duration(grace))
    _print(keys, as_json=as_json)
    return 0


def _print(keys: Sequence[TicketKey], *, as_json: bool) -> None:
    if as_json:
        print_json([key.model_dump() for key in keys])
        return
    rows = [(key.public, _until(key)) for key in keys]
    typer.echo(columns(("PUBLIC KEY", "TRUSTED"), rows))


def _until(key: TicketKey) -> str:
    if key.until is None:
        return "in use"
    return f"until {datetime.fromtimestamp(key.until, UTC):%Y-%m-%dT%H:%M:%SZ}"
