"""The group ``banger config``: what is configured, and where."""

from __future__ import annotations

import re

import typer

from banger.cli import options
from banger.cli.columns import columns, print_json
from banger.cli.group import command, group
from banger.cli.session import session_of

app = group("The configuration.")


@command(app, "show")
def show(ctx: typer.Context, as_json: options.Json = False) -> int:
    """Show each setting, its value, and where that came from. Passwords are masked.

    Sources, the weakest first: built-in defaults, /etc/banger/config.toml, ~/.config/banger/config.toml,
    BANGER_* variables.

    \b
    Examples:
      banger config show
    """
    from banger.settings import sources

    settings = session_of(ctx).settings
    values = settings.model_dump(mode="json")
    found = {name: (_masked(values[name]), origin) for name, (_, origin) in sources(settings).items()}
    if as_json:
        print_json({name: {"value": value, "source": origin} for name, (value, origin) in found.items()})
    else:
        rows = [(name, _shown(value), origin) for name, (value, origin) in found.items()]
        typer.echo(columns(("SETTING", "VALUE", "SOURCE"), rows))
    return 0


def _shown(value: object) -> object:
    """Return the value as the configuration's files have it, empty where there is none."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def _masked(value: object) -> object:
    """Return the value with the password of a URL replaced."""
    return re.sub(r"(?<=://)([^/@]*):[^/]*@", r"\1:***@", value) if isinstance(value, str) else value
