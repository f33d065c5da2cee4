"""Stage ``exec``: a command in the guest, word for word, its output streamed as it comes."""

from __future__ import annotations

from typing import Any

from banger.contracts.errors import StageFailedError
from banger.contracts.requests import ExecRequest
from workers.guest_commands import run_in_guest
from workers.host import StageContext


def do(request: ExecRequest, ctx: StageContext) -> dict[str, Any]:
    """Run the command and return ``{"exit_code": N}``, whatever N is: a red test is no failure of ours.

    StageFailedError when it did not end in time; other errors are those of ``run_in_guest``.
    """
    code = run_in_guest(
        ctx, request.vm_id, request.address, request.argv, timeout_s=request.timeout_s, emit=ctx.emit
    )
    if code is None:
        raise StageFailedError(f"the command did not end within {request.timeout_s:g} s and was cut off")
    return {"exit_code": code}
