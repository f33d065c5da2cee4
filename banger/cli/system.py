"""The group ``banger system``: the farm on this machine as services of systemd."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import options
from banger.cli.columns import columns, pairs, print_json
from banger.cli.group import command, group
from banger.cli.session import session_of

if TYPE_CHECKING:
    from banger.settings import Settings
    from banger.system.applying import Done
    from banger.system.control import Status
    from banger.system.plan import InstallPlan
    from banger.system.systemd import UnitState

app = group("The farm on this machine as services of systemd.")

NOT_WELL = 3


@command(app, "install")
def install(
    ctx: typer.Context,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner", metavar="USER", help="Who may use the farm without sudo; else who calls sudo."
        ),
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option("--redis-url", metavar="URL", help="A Redis to use, rather than one of the farm's own."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be there, change nothing.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Install the farm's services, or mend them, and start them. Needs root. May be repeated.

    An existing /etc/banger/config.toml is kept. VMs that run are left alone.

    \b
    Examples:
      sudo banger system install --dry-run
      sudo banger system install --owner anna
      sudo banger system install --redis-url rediss://redis.example.org:6380/0
    """
    from banger.system import control

    given = {"owner": owner, "redis_url": redis_url}
    settings = _settings(ctx, {name: value for name, value in given.items() if value is not None})
    if dry_run:
        _print_plan(control.plan(settings), as_json=as_json)
    else:
        _print_done(control.install(settings), as_json=as_json)
    return 0


@command(app, "status")
def status(ctx: typer.Context, as_json: options.Json = False) -> int:
    """Show the services, and what is no longer as it was installed. Ends with 3 unless all is well.

    \b
    Examples:
      banger system status
      sudo banger system status --json
    """
    from banger.system import control

    found = control.status(session_of(ctx).settings)
    if as_json:
        print_json(_as_data(found))
    else:
        _print_status(found)
    return NOT_WELL if found.drift else 0


@command(app, "restart")
def restart(ctx: typer.Context) -> int:
    """Restart the services. The VMs go on. Needs root.

    \b
    Examples:
      sudo banger system restart
    """
    from banger.system import control

    typer.echo(_units_table(control.restart(session_of(ctx).settings)))
    return 0


@command(app, "uninstall")
def uninstall(
    ctx: typer.Context,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove state, configuration and users too: images, disks, keys.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Leave VMs running; not with --purge.")] = False,
    as_json: options.Json = False,
) -> int:
    """Stop the services and remove what `install` made, that and nothing else. Needs root.

    The state (images, VMs, Redis' data) and the configuration stay, for another `install`, unless they are
    purged. While VMs run, nothing is done.

    \b
    Examples:
      sudo banger system uninstall
      sudo banger system uninstall --purge
    """
    from banger.system import control

    _print_done(control.uninstall(session_of(ctx).settings, purge=purge, force=force), as_json=as_json)
    return 0


def _settings(ctx: typer.Context, given: dict[str, str]) -> Settings:
    from banger.settings import load_settings

    return load_settings(**given) if given else session_of(ctx).settings


def _print_plan(plan: InstallPlan, *, as_json: bool) -> None:
    from banger.system.plan import described

    if not as_json:
        typer.echo(columns(("KIND", "NAME", "HOW"), list(described(plan))))
        return
    print_json(
        {
            "users": [user._asdict() for user in plan.users],
            "directories": [
                {"path": str(one.path), "owner": one.owner, "mode": f"{one.mode:04o}"}
                for one in plan.directories
            ],
            "files": [
                {
                    "path": str(file.path),
                    "owner": file.owner,
                    "group": file.group,
                    "mode": f"{file.mode:04o}",
                    "kept": file.kept,
                    "text": None if file.secret else file.text,
                }
                for file in plan.files
            ],
            "services": list(plan.services),
        }
    )


def _print_done(done: Iterable[Done], *, as_json: bool) -> None:
    if as_json:
        print_json([one._asdict() for one in done])
        return
    quiet = 0
    for one in done:
        if one.what == "unchanged":
            quiet += 1
        else:
            typer.echo(f"{one.kind:<10} {one.name}: {one.what}")
    if quiet:
        typer.echo(f"{quiet} things were as they should be.")


def _print_status(found: Status) -> None:
    made = found.manifest
    typer.echo(
        pairs(
            [
                ("Version", made.version),
                ("Installed", f"{made.installed_at:%Y-%m-%d %H:%M} UTC"),
                ("Owner", f"{made.owner} (uid {made.uid}, gid {made.gid})" if made.owner else "root alone"),
                ("Redis", made.redis_url or "the farm's own"),
            ]
        )
    )
    typer.echo("\n" + _units_table(found.units))
    for one in (*found.drift, *found.loosened):
        typer.echo(f"{one.what} {one.how}")
    if found.drift:
        typer.echo("`sudo banger system install` makes it as it was.")


def _units_table(units: Iterable[UnitState]) -> str:
    rows = [
        (unit.name, unit.active, unit.sub, unit.pid or "", unit.restarts, unit.since or "") for unit in units
    ]
    return columns(("UNIT", "STATE", "DETAIL", "PID", "RESTARTS", "SINCE"), rows)


def _as_data(found: Status) -> dict[str, Any]:
    made = found.manifest.model_dump(mode="json", exclude={"users", "directories", "files"})
    return made | {
        "units": [unit.model_dump(mode="json") for unit in found.units],
        "drift": [one._asdict() for one in found.drift],
        "changed_by_administrator": [one._asdict() for one in found.loosened],
        "well": not found.drift,
    }
