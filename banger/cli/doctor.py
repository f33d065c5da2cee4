"""``banger doctor``: is this machine ready, and how to make it so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from banger.cli import options
from banger.cli.columns import print_json
from banger.cli.failure import printable
from banger.cli.session import session_of

if TYPE_CHECKING:
    from banger.doctor import Check

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(ctx: typer.Context, as_json: options.Json = False) -> int:
    """Check this machine and its farm. Ends with 1 when something fails; warnings are tolerable.

    \b
    Examples:
      sudo banger doctor
      banger doctor --json
    """
    from banger.doctor import examine, gather

    checks = examine(gather(session_of(ctx).settings))
    failed = sum(check.status == "fail" for check in checks)
    if as_json:
        print_json([check.model_dump(mode="json") for check in checks])
    else:
        for check in checks:
            typer.echo(printable(check_text(check)) if not sys.stdout.isatty() else _coloured(check))
        warned = sum(check.status == "warn" for check in checks)
        typer.echo(f"\n{len(checks)} checks: {failed} failed, {warned} warnings.")
    return 1 if failed else 0


def check_text(check: Check) -> str:
    """Return a check as lines: its finding, and where that is not well, what it means and how to mend it."""
    lines = [f"{check.status:<4}  {check.name:<22}  {check.found}"]
    if check.status != "ok":
        lines += [f"      what it means: {check.meaning}", f"      to mend it:    {check.remedy}"]
    return "\n".join(lines)


def _coloured(check: Check) -> str:
    text = printable(check_text(check))
    return typer.style(text[:4], fg=_COLOURS[check.status]) + text[4:]
