"""The group ``banger audit``: what root was asked on this host, and that nobody has altered the account."""

from __future__ import annotations

import json
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import options
from banger.cli.columns import print_json
from banger.cli.failure import printable
from banger.cli.group import command, group
from banger.cli.session import session_of

if TYPE_CHECKING:
    from banger.contracts.audit import Head
    from banger.settings import Settings

app = group("Root's audit on this host: what it was asked, did and refused.")


@command(app, "verify")
def verify(ctx: typer.Context, as_json: options.Json = False) -> int:
    """Verify that no line of the audit was altered, removed or cut off. Ends with 1 where one was.

    Each line holds the hash of the one before it, and root publishes the newest line's in Redis: where that
    can be reached, a cut at the end is found too.

    \b
    Examples:
      sudo banger audit verify
      sudo banger audit verify --json
    """
    from dataclasses import asdict

    from banger.audit import verify as verify_files

    settings = session_of(ctx).settings
    published = _published(settings)
    verdict = verify_files(settings.paths.audit, published)
    if as_json:
        print_json(asdict(verdict) | {"checked_against_redis": published is not None})
        return 0
    typer.echo(f"{verdict.lines} lines, {verdict.first} to {verdict.last}, are as root wrote them.")
    typer.echo(f"{verdict.refused} messages were refused.")
    if published is None:
        typer.echo("Redis could not be asked, so a cut at the end would not have been seen.", err=True)
    return 0


@command(app, "log")
def log(
    ctx: typer.Context,
    count: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the newest.")] = 50,
    refused: Annotated[bool, typer.Option("--refused", help="Refusals only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> int:
    """Print the newest of what root was asked, did and refused.

    \b
    Examples:
      sudo banger audit log -n 20
      sudo banger audit log --refused --json
    """
    from banger.audit import entries

    wanted = (
        one
        for one in entries(session_of(ctx).settings.paths.audit)
        if not refused or one["event"] == "refused"
    )
    for entry in deque(wanted, maxlen=count):
        typer.echo(json.dumps(entry) if as_json else printable(_line(entry)))
    return 0


def _published(settings: Settings) -> Head | None:
    """Return where root says that its audit ends; None where Redis cannot be asked."""
    from banger.connection import connect
    from banger.contracts.audit import Head, audit_key
    from banger.contracts.errors import UnavailableError

    try:
        client: Any = connect(settings.redis())
        said = client.hmget(audit_key(settings.host), "seq", "hash")
    except UnavailableError:
        return None
    return Head(int(said[0]), str(said[1])) if all(said) else None


def _line(entry: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(entry["at"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = entry.get("reason") or entry.get("error") or entry.get("next") or ""
    return f"{at}  {entry['event']:<8} {entry.get('task') or '-'}  {entry.get('id') or '-'}  {said}".rstrip()
