"""Into a guest: a shell, a command. Over SSH, from the host that the VM runs on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.session import Session, session_of
from banger.contracts.errors import BangerError, InvalidInputError

if TYPE_CHECKING:
    from banger.records import Record

EXEC_FAILED = 125  # as docker has it: the fault is ours, not the command's
_DIAL_S = 10


def ssh(ctx: typer.Context, name: options.Ref) -> int:
    """Open a shell in a VM.

    \b
    Examples:
      banger vm ssh dev
    """
    from banger.shell import become
    from banger.ssh import ssh_argv

    session = session_of(ctx)
    record = running_here(session, name)
    become(ssh_argv(session.settings.paths, record.id, str(record.address), tty=True, dial_s=_DIAL_S))


def exec_(
    ctx: typer.Context,
    name: options.Ref,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command, word for word.")],
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Cut the command off after this time.")
    ] = None,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give the command a terminal.")] = False,
) -> int:
    """Run a command in a VM.

    It has this terminal's stdin, stdout and stderr. The exit code is the command's, and 125 where banger
    itself failed. No shell takes the words apart: ask for one where you want one.

    \b
    Examples:
      banger vm exec dev -- uname -a
      banger vm exec dev -- sh -c 'cd /srv && ls | wc -l'
      tar -c src | banger vm exec dev --timeout 1m -- tar -x -C /srv
    """
    from banger.shell import attached
    from banger.ssh import OWN_FAILURE, guest_answered, own_words, ssh_argv

    session = session_of(ctx)
    session.failure_code = EXEC_FAILED
    timeout_s = options.duration(timeout)
    record = running_here(session, name)
    with tempfile.NamedTemporaryFile(prefix="banger-ssh-") as log:
        argv = ssh_argv(
            session.settings.paths,
            record.id,
            str(record.address),
            command,
            tty=tty,
            dial_s=_DIAL_S,
            log=Path(log.name),
        )
        try:
            code = attached(argv, deadline_s=timeout_s)
        except TimeoutError:
            raise BangerError(f"the command did not end within {timeout_s:g} s and was cut off") from None
        said = log.read().decode(errors="replace")
    if code < 0 or (code == OWN_FAILURE and not guest_answered(said)):
        raise BangerError(
            f"the connection to {record.name} failed",
            details=own_words(said)[-2000:],
            resolution=f"`banger vm logs {record.name}` shows the guest's console.",
        )
    return code


def running_here(session: Session, ref: str) -> Record:
    """Return a VM that runs on this very host; WrongStateError or InvalidInputError otherwise."""
    record = session.farm.require_running(ref)
    require_here(session, record)
    return record


def require_here(session: Session, record: Record) -> None:
    """Raise InvalidInputError for a VM of another host."""
    if record.host != session.settings.host:
        raise InvalidInputError(
            f"VM {record.name} is on host {record.host}, and this is {session.settings.host}",
            details="guests can be reached from their own host alone",
            resolution=f"Run this command on {record.host}.",
        )
