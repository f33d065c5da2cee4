"""debugfs on a disk that the worker has made and no guest has seen yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from banger.shell import Completed, find_tool, run

_DEADLINE_S = 30
_ANY = range(256)  # debugfs's status says nothing about its commands


class WorkerDebugfs:
    """``banger.contracts.ext4.Debugfs`` on the disk at a path."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def read(self, script: str) -> bytes:
        """Run a script without write access and return stdout."""
        return self._run((), script, ()).stdout

    def write(self, contents: Sequence[bytes], script: Callable[[Sequence[str]], str]) -> bytes:
        """Run a script with write access, given paths of ``contents``; return stderr."""
        with ExitStack() as stack:
            fds = []
            for content in contents:
                file = stack.enter_context(os.fdopen(os.memfd_create("guest-file"), "wb"))
                file.write(content)
                file.flush()
                fds.append(file.fileno())
            return self._run(("-w",), script([f"/proc/self/fd/{fd}" for fd in fds]), fds).stderr

    def _run(self, options: Sequence[str], script: str, fds: Sequence[int]) -> Completed:
        return run(
            (find_tool("debugfs"), *options, "-f", "-", str(self._disk)),
            deadline_s=_DEADLINE_S,
            good=_ANY,
            stdin=script.encode(),
            pass_fds=fds,
        )
