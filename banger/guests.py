"""A command in a guest, for the Python API: streamed as it runs, its exit code at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from banger.contracts.errors import StageFailedError
from banger.keyring import SshKeys
from banger.output import Output, StreamName
from banger.records import Record
from banger.shell import stream
from banger.ssh import guest_session


def run_command(
    keys: SshKeys,
    record: Record,
    argv: Sequence[str],
    timeout_s: float,
    on_output: Callable[[Output], None] | None,
) -> int:
    """Run a command in a VM of this host, word for word, without stdin, and return its exit code.

    GuestUnreachableError when the connection failed, StageFailedError when the time was over.
    """

    def emit(name: StreamName, data: bytes) -> None:
        if on_output:
            on_output(Output(name, data))

    with guest_session(keys, record.id, str(record.address), argv) as session:
        result = stream(session.argv, deadline_s=timeout_s, emit=emit, stop=lambda: False)
        if result.ended == "deadline":
            raise StageFailedError(f"the command did not end within {timeout_s:g} s and was cut off")
        return session.exit_code(result.code)
