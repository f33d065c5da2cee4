"""The group ``banger batch``: one plan, many VMs, one verdict."""

from __future__ import annotations

from banger.cli import batch_read, batch_show
from banger.cli.group import command, group

app = group("Run one plan in many VMs, and get one verdict.")
command(app, "list")(batch_read.list_)
command(app, "status")(batch_read.status)
command(app, "show")(batch_show.show)
command(app, "schema")(batch_read.schema)
