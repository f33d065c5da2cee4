"""A command in a guest, from a worker: streamed, bounded in time, and stopped with its job or with us."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from banger.contracts.errors import UnavailableError
from banger.contracts.runner import stopped
from banger.shell import find_tool, stream
from banger.ssh import guest_session
from workers.host import StageContext

_MAX_LOG_BYTES = 16 * 1024 * 1024  # of what ssh says of itself, in a file: a guest's server makes it talk


def run_in_guest(
    ctx: StageContext,
    vm_id: str,
    address: str,
    argv: Sequence[str],
    *,
    timeout_s: float,
    emit: Callable[[Literal["stdout", "stderr"], bytes], None],
    stdin: bytes = b"",
) -> int | None:
    """Run a command and return its exit code, None where it did not end in time.

    GuestUnreachableError when the guest did not say how it ended (no connection, another's host key, a
    connection lost), what ``stopped`` says when the job is to stop, UnavailableError when this worker is.
    Killing ssh hangs up on the guest's command; one that ignores that lives until its VM stops.
    """
    with guest_session(ctx.host.paths, vm_id, address, argv) as session:
        result = stream(
            (find_tool("prlimit"), f"--fsize={_MAX_LOG_BYTES}", *session.argv),
            deadline_s=timeout_s,
            emit=emit,
            stop=lambda: ctx.host.stopping.is_set() or bool(ctx.wish()),
            stdin=stdin,
        )
        if result.ended == "itself":
            return session.exit_code(result.code)
    if result.ended == "deadline":
        return None
    if wish := ctx.wish():
        raise stopped(wish, "the command was cancelled")
    raise UnavailableError("the host's worker is shutting down", resolution="Run the command again.")
