"""Stage ``exec``: a command in the guest, word for word, its output streamed as it comes."""

from __future__ import annotations

from typing import Any

from banger.contracts.errors import CancelledError, StageFailedError, UnavailableError
from banger.contracts.requests import ExecRequest
from banger.shell import stream
from banger.ssh import guest_session
from workers.host import StageContext


def do(request: ExecRequest, ctx: StageContext) -> dict[str, Any]:
    """Run the command and return ``{"exit_code": N}``, whatever N is: a red test is no failure of ours.

    GuestUnreachableError when the guest did not say how the command ended (no connection, another's host
    key, a connection lost), StageFailedError when the deadline passed, CancelledError when the job was
    cancelled. Killing ssh hangs up on the guest's command; one that ignores that lives until its VM stops.
    """
    with guest_session(ctx.host.paths, request.vm_id, request.address, request.argv) as session:
        result = stream(
            session.argv,
            deadline_s=request.timeout_s,
            emit=ctx.emit,
            stop=lambda: ctx.host.stopping.is_set() or ctx.cancelled(),
        )
        if result.ended == "itself":
            return {"exit_code": session.exit_code(result.code)}
    if result.ended == "stopped":
        if ctx.cancelled():
            raise CancelledError("the command was cancelled")
        raise UnavailableError("the host's worker is shutting down", resolution="Run the command again.")
    raise StageFailedError(f"the command did not end within {request.timeout_s:g} s and was cut off")
