"""Stage ``exec``: a command in the guest, word for word, its output streamed as it comes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from banger.contracts.errors import CancelledError, StageFailedError, UnavailableError
from banger.contracts.requests import ExecRequest
from banger.shell import stream
from banger.ssh import OWN_FAILURE, guest_answered, own_words, ssh_argv
from workers.host import StageContext

_DIAL_S = 10


def do(request: ExecRequest, ctx: StageContext) -> dict[str, Any]:
    """Run the command and return ``{"exit_code": N}``, whatever N is: a red test is no failure of ours.

    StageFailedError when the guest did not say how the command ended (no connection, another's host key, a
    connection lost) or the deadline passed; CancelledError when the job was cancelled. Killing ssh hangs up
    on the guest's command; one that ignores that lives on until its VM stops.
    """
    with tempfile.NamedTemporaryFile(prefix="banger-ssh-") as said:
        argv = ssh_argv(
            ctx.host.paths, request.vm_id, request.address, request.argv, dial_s=_DIAL_S, log=Path(said.name)
        )
        result = stream(
            argv,
            deadline_s=request.timeout_s,
            emit=ctx.emit,
            stop=lambda: ctx.host.stopping.is_set() or ctx.cancelled(),
        )
        ssh_log = said.read().decode(errors="replace")
    if result.ended == "stopped":
        if ctx.cancelled():
            raise CancelledError("the command was cancelled")
        raise UnavailableError("the host's worker is shutting down", resolution="Run the command again.")
    if result.ended == "deadline":
        raise StageFailedError(f"the command did not end within {request.timeout_s:g} s and was cut off")
    if result.code < 0 or (result.code == OWN_FAILURE and not guest_answered(ssh_log)):
        raise StageFailedError(
            "the connection to the guest failed",
            details=own_words(ssh_log)[-2000:],
            resolution=f"The guest's console: {ctx.host.paths.serial_log(request.vm_id)}",
        )
    return {"exit_code": result.code}
