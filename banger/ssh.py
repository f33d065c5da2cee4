"""How banger speaks to guests: one OpenSSH command line, the same for the CLI and the workers.

Nothing of the user's or the machine's configuration plays in. The guest's host key is known from before
its first boot, under an alias made of the VM's id: that an address had another guest yesterday does no harm.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from banger.contracts.errors import GuestUnreachableError
from banger.contracts.names import link_alias
from banger.keyring import SshKeys
from banger.shell import find_tool

PORT = 22
OWN_FAILURE = 255  # what ssh ends with when the fault is its own; a guest's command may say the same
SESSION_DIAL_S = 10  # a guest that works may be slow to answer
WRONG_KEY = "Host key verification failed"
DENIED = "Permission denied ("
_NOT_ADMITTED = (
    "It does not admit this user's key, which may be newer than the VM: enter it with sudo, or "
    "create it anew. `banger vm logs` shows the guest's console."
)
_ANSWERED = "rtype exit-s"  # of exit-status and exit-signal, the guest's last words on a command


def guest_command(argv: Sequence[str]) -> str:
    """Return the one string that a guest's shell takes apart into exactly these words again.

    The ``exit`` keeps the shell there to the end, so that a command killed by a signal ends with 128 + the
    signal; replaced by the command, as shells do with their last, there would be no exit code at all.
    """
    return f"{shlex.join(argv)}; exit $?"


def ssh_argv(
    keys: SshKeys,
    vm_id: str,
    address: str,
    command: Sequence[str] | None = None,
    *,
    tty: bool = False,
    dial_s: int = 2,
    log: Path | None = None,
) -> tuple[str, ...]:
    """Return the command line of ssh to the guest's root; without a command, a login shell.

    A host's paths are the farm's own keys; ``Farm.keys`` are those of who runs this process.
    ``dial_s`` bounds connection and key exchange together. ``log`` takes what ssh itself has to say, so that
    stderr is the guest's alone; ``GuestSession`` reads it.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(dial_s),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "6",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": link_alias(vm_id),
        "UserKnownHostsFile": _as_option(keys.known_hosts(vm_id)),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentityFile": _as_option(keys.identity),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ControlPath": "none",
        "LogLevel": "DEBUG1" if log else "ERROR",
    }
    argv = [find_tool("ssh"), "-F", "none", "-p", str(PORT), "-tt" if tty else "-T"]
    if not tty:
        argv += ["-e", "none"]
    if log:
        argv += ["-E", str(log)]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    argv += ["--", f"root@{address}"]
    if command is not None:
        argv.append(guest_command(command))
    return tuple(argv)


def _as_option(path: Path) -> str:
    """Return a path as ssh's options want it: homes may have blanks, and ``%`` begins a token."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if re.search(r"\s", text) else text


class GuestSession(NamedTuple):
    """One command in a guest: ssh's command line, and the file in which ssh says how it went."""

    argv: tuple[str, ...]
    log: Path

    def exit_code(self, code: int) -> int:
        """Return the guest's exit code from ssh's own, even where both are 255.

        GuestUnreachableError when the guest did not say how the command ended.
        """
        said = self.log.read_text(errors="replace")
        if code < 0 or (code == OWN_FAILURE and _ANSWERED not in said):
            raise GuestUnreachableError(
                "the connection to the guest failed",
                details=_own_words(said)[-2000:],
                resolution=_NOT_ADMITTED if DENIED in said else "`banger vm logs` shows the guest's console.",
            )
        return code


@contextmanager
def guest_session(
    keys: SshKeys, vm_id: str, address: str, command: Sequence[str], *, tty: bool = False
) -> Iterator[GuestSession]:
    """Yield a session for one command; its log is gone afterwards."""
    with tempfile.NamedTemporaryFile(prefix="banger-ssh-") as file:
        log = Path(file.name)
        argv = ssh_argv(keys, vm_id, address, command, tty=tty, dial_s=SESSION_DIAL_S, log=log)
        yield GuestSession(argv, log)


def _own_words(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if not line.startswith("debug")).strip()
