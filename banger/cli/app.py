"""The whole command line: ``banger`` and its groups."""

from __future__ import annotations

from typing import Annotated

import typer

from banger import __version__
from banger.cli import (
    audit,
    config,
    doctor,
    events,
    farm,
    host,
    image,
    job,
    kernel,
    key,
    reconcile,
    redis,
    run,
    system,
    vm,
)
from banger.cli.batch.app import app as batch
from banger.cli.group import command, group, require_command

app = group("A job-queue worker farm for microVMs.", completion=True)


@app.callback()
def _(
    ctx: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        typer.echo(f"banger {__version__}")
        raise typer.Exit
    require_command(ctx)


app.add_typer(vm.app, name="vm")
command(app, "run")(run.run)
app.add_typer(batch, name="batch")
app.add_typer(job.app, name="job")
app.add_typer(image.app, name="image")
app.add_typer(kernel.app, name="kernel")
app.add_typer(host.app, name="host")
app.add_typer(farm.app, name="farm")
app.add_typer(system.app, name="system")
app.add_typer(key.app, name="key")
app.add_typer(audit.app, name="audit")
command(app, "events")(events.events)
command(app, "doctor")(doctor.doctor)
command(app, "reconcile")(reconcile.reconcile)
app.add_typer(redis.app, name="redis")
app.add_typer(config.app, name="config")
