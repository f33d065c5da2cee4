"""The group ``banger batch``: one plan, many VMs, one verdict."""

from __future__ import annotations

from banger.cli import (
    batch_again,
    batch_artifacts,
    batch_attach,
    batch_debug,
    batch_logs,
    batch_read,
    batch_run,
    batch_show,
    batch_stop,
)
from banger.cli.batch_options import EXIT_CODES
from banger.cli.group import command, group

app = group("Run one plan in many VMs, and get one verdict.")
command(app, "run", with_command=True, epilog=EXIT_CODES)(batch_run.run)
command(app, "attach", epilog=EXIT_CODES)(batch_attach.attach)
command(app, "list")(batch_read.list_)
command(app, "status")(batch_read.status)
command(app, "show")(batch_show.show)
command(app, "logs")(batch_logs.logs)
command(app, "artifacts")(batch_artifacts.artifacts)
command(app, "debug")(batch_debug.debug)
command(app, "rerun", epilog=EXIT_CODES)(batch_again.rerun)
command(app, "retry", epilog=EXIT_CODES)(batch_again.retry)
command(app, "cancel")(batch_stop.cancel)
command(app, "prune")(batch_stop.prune)
command(app, "schema")(batch_read.schema)
