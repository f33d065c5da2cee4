"""A command on a terminal that nobody looks at: what it prints is read, and thrown away."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

_SIZE = (50, 120)  # lines and columns


class Exited(NamedTuple):
    """How a command ended, when (epoch seconds), how long it took, and how long on the processor."""

    code: int
    at: float
    took_s: float
    cpu_s: float


class InTerminal:
    """A context in which the command runs; it is killed at its end, should it still do so."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *_SIZE, 0, 0))
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            argv, env=dict(environment) | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)

    def wait(self) -> Exited:
        """Wait for the command's end."""
        _, status, used = os.wait4(self._process.pid, 0)
        at = time.time()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        took_s = time.monotonic() - self._started
        return Exited(self._process.returncode, at, took_s, used.ru_utime + used.ru_stime)

    def _read(self) -> None:
        with suppress(OSError):
            while os.read(self._ours, 65536):
                pass
