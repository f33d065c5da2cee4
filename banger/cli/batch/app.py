"""The group ``banger batch``: one plan, many VMs, one verdict."""

from __future__ import annotations

from banger.cli.batch import (
    again,
    artifacts,
    attach,
    debug,
    listing,
    logs,
    run,
    schema,
    show,
    status,
    stop,
)
from banger.cli.batch.options import EXIT_CODES
from banger.cli.group import command, group

app = group("Run one plan in many VMs, and get one verdict.")
command(app, "run", with_command=True, epilog=EXIT_CODES)(run.run)
command(app, "attach", epilog=EXIT_CODES)(attach.attach)
command(app, "list")(listing.list_)
command(app, "status")(status.status)
command(app, "show")(show.show)
command(app, "logs")(logs.logs)
command(app, "artifacts")(artifacts.artifacts)
command(app, "debug")(debug.debug)
command(app, "rerun", epilog=EXIT_CODES)(again.rerun)
command(app, "retry", epilog=EXIT_CODES)(again.retry)
command(app, "cancel")(stop.cancel)
command(app, "prune")(stop.prune)
command(app, "schema")(schema.schema)
