"""``banger reconcile``: hold what hosts have against what is intended, now."""

from __future__ import annotations

from typing import Annotated

import typer

from banger.cli import options
from banger.cli.columns import columns, print_json
from banger.cli.completion import host_names
from banger.cli.session import session_of


def reconcile(
    ctx: typer.Context,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="HOST", help="This host alone.", autocompletion=host_names),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Hold what each host has against what is intended, and mend it.

    Workers do so every few seconds; this asks them to do it now, and tells what they find. What may be but a
    moment between two stages is looked at again for some seconds before anything is done about it. The exit
    code is 1 when a host does not answer, or something could not be mended.

    \b
    Examples:
      banger reconcile --dry-run
      banger reconcile --host h1 --json
    """
    reports = session_of(ctx).farm.reconcile(host, act=not dry_run)
    found = [(name, finding) for name, report in reports.items() if report for finding in report.findings]
    silent = [name for name, report in reports.items() if report is None]
    failed = bool(silent) or any(finding.outcome.startswith("failed") for _, finding in found)
    if as_json:
        print_json({name: report and report.model_dump(mode="json") for name, report in reports.items()})
        return int(failed)
    for name in silent:
        typer.echo(f"{name} does not answer; `banger host list` tells whether it is alive", err=True)
    if found:
        rows = [
            (host, one.name or one.vm_id or "-", one.what, str(one.action), one.outcome or "-")
            for host, one in found
        ]
        typer.echo(columns(("HOST", "VM", "FOUND", "ACTION", "OUTCOME"), rows))
    elif not silent:
        typer.echo(f"all is as it should be on {', '.join(reports) or 'no host'}")
    return int(failed)
