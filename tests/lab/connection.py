"""The way into the lab's host: one SSH connection, which every command shares, also across processes."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

_GRACE_S = 20.0  # for what a command said to arrive, after the host's own timeout ended it
_CONNECT_S = 20.0
_TIMED_OUT = (124, 137)


class LabError(Exception):
    """The lab's host, or a command in it, did not do as it should; the text says what it said."""


class Ended(NamedTuple):
    """How a command in the host ended."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        """What it printed."""
        return self.stdout.decode(errors="replace")

    @property
    def err(self) -> str:
        """What it complained of."""
        return self.stderr.decode(errors="replace")


class Connection:
    """An SSH connection whose key, known hosts, port and socket lie in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def argv(self, *options: str) -> tuple[str, ...]:
        """Return an ssh to the host as far as its destination; a command may follow."""
        settings = {
            "IdentityFile": self._directory / "id_ed25519",
            "UserKnownHostsFile": self._directory / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": "lab",
            "StrictHostKeyChecking": "yes",
            "ControlPath": self._directory / "ssh",
            "BatchMode": "yes",
            "ConnectTimeout": 10,
            "ServerAliveInterval": 30,
            "LogLevel": "ERROR",
        }
        flags = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        port = (self._directory / "port").read_text()
        return ("/usr/bin/ssh", "-F", "/dev/null", *flags, "-p", port, *options, "root@127.0.0.1")

    def open(self) -> bool:
        """Have the connection, a new one where there is none; False when the host does not answer."""
        if self._quietly(*self.argv("-O", "check")):
            return True
        return self._quietly(*self.argv("-M", "-N", "-f"))

    def close(self) -> None:
        """End the connection, were there one."""
        with contextlib.suppress(FileNotFoundError):  # a host that got no port never had one
            self._quietly(*self.argv("-O", "exit"))

    def execute(self, script: str, *, deadline_s: float, user: str = "root", stdin: bytes = b"") -> Ended:
        """Run a bash script in the host; LabError unless it ends in time."""
        if not self.open():
            raise LabError(f"the host does not answer SSH, to run {script!r}")
        script = f"set -euo pipefail\n{script}"
        words = ("bash", "-c", script)
        if user != "root":
            words = ("runuser", "--login", user, "--command", shlex.join(words))
        # The host's own timeout ends what a killed ssh would leave running there.
        bounded = shlex.join(("timeout", "--kill-after=5", f"{deadline_s:.0f}", *words))
        argv = (*self.argv("-T"), bounded)
        try:
            ended = subprocess.run(
                argv, input=stdin, capture_output=True, timeout=deadline_s + _GRACE_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{script!r} did not end within {deadline_s:g} s, nor did its ssh") from error
        found = Ended(ended.returncode, ended.stdout, ended.stderr)
        if found.code in _TIMED_OUT:
            raise LabError(
                f"{script!r} did not end within {deadline_s:g} s\n{found.out[-2000:]}{found.err[-2000:]}"
            )
        return found

    def _quietly(self, *argv: str) -> bool:
        # No pipe of ours: a connection that stays in the background would hold it open for ever.
        try:
            return (
                subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_CONNECT_S,
                    check=False,
                ).returncode
                == 0
            )
        except subprocess.TimeoutExpired:
            return False
