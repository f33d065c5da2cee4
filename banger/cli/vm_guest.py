"""Into a guest: a shell, a command. Over SSH, from the host that the VM runs on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from banger.cli import options
from banger.cli.session import session_of
from banger.contracts.durations import parse_duration
from banger.contracts.errors import BangerError

EXEC_FAILED = 125  # as docker has it: the fault is ours, not the command's


def ssh(ctx: typer.Context, name: options.Ref) -> int:
    """Open a shell in a VM.

    \b
    Examples:
      banger vm ssh dev
      banger vm ssh dev < script.sh
    """
    from banger.shell import become
    from banger.ssh import SESSION_DIAL_S, ssh_argv

    session = session_of(ctx)
    record = session.farm.require_running_here(name)
    tty = sys.stdin.isatty()  # else a shell on one would wait for ever, once what is piped in has ended
    become(ssh_argv(session.farm.keys, record.id, str(record.address), tty=tty, dial_s=SESSION_DIAL_S))


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
    from banger.ssh import guest_session

    session = session_of(ctx)
    session.failure_code = EXEC_FAILED
    timeout_s = None if timeout is None else parse_duration(timeout, "timeout")
    record = session.farm.require_running_here(name)
    with guest_session(session.farm.keys, record.id, str(record.address), command, tty=tty) as guest:
        try:
            return guest.exit_code(attached(guest.argv, deadline_s=timeout_s))
        except TimeoutError:
            raise BangerError(f"the command did not end within {timeout_s:g} s and was cut off") from None
