"""The group ``banger vm``."""

from __future__ import annotations

from banger.cli import vm_copy, vm_create, vm_guest, vm_logs, vm_power, vm_read, vm_remove
from banger.cli.group import command, group

app = group("Make, use and remove VMs.")
command(app, "create")(vm_create.create)
command(app, "start")(vm_power.start)
command(app, "stop")(vm_power.stop)
command(app, "restart")(vm_power.restart)
command(app, "kill")(vm_power.kill)
command(app, "delete")(vm_remove.delete)
command(app, "prune")(vm_remove.prune)
command(app, "list")(vm_read.list_)
command(app, "ps", hidden=True)(vm_read.list_)
command(app, "show")(vm_read.show)
command(app, "set")(vm_create.set_)
command(app, "ssh")(vm_guest.ssh)
command(app, "exec")(vm_guest.exec_)
command(app, "cp")(vm_copy.cp)
command(app, "logs")(vm_logs.logs)
