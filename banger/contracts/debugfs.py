"""debugfs on one disk: scripts in, what it printed out. Each side of the farm starts it by its own door."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

ANY = range(-64, 256)  # its status says nothing about its commands, nor does the signal that ended it


class Output(Protocol):
    """What a door returns of a program that has ended."""

    @property
    def stdout(self) -> bytes:
        """The start of what it printed."""

    @property
    def stderr(self) -> bytes:
        """The start of what it complained."""


class Start(Protocol):
    """Start debugfs with these options, as a side may, and wait for its end; ``ANY`` end is good."""

    def __call__(self, *options: str, script: str, fds: Sequence[int] = ()) -> Output:
        """Return what it printed. ``fds`` are open in it under the same numbers."""


class Debugfs:
    """debugfs on the disk that ``start`` names."""

    def __init__(self, start: Start) -> None:
        self._start = start

    def read(self, script: str) -> bytes:
        """Run a script without write access and return stdout."""
        return self._start("-f", "-", script=script).stdout

    def write(self, contents: Sequence[bytes], script: Callable[[Sequence[str]], str]) -> bytes:
        """Run a script with write access, given paths of ``contents``; return stderr."""
        with ExitStack() as stack:
            fds = [_in_memory(stack, content) for content in contents]
            sources = [f"/proc/self/fd/{fd}" for fd in fds]
            return self._start("-w", "-f", "-", script=script(sources), fds=fds).stderr


def _in_memory(stack: ExitStack, content: bytes) -> int:
    fd = os.memfd_create("guest-file")
    stack.callback(os.close, fd)
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(content)
    return fd
