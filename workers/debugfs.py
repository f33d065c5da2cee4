"""debugfs on a disk that the worker has made and no guest has seen yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from banger.contracts.debugfs import ANY, Debugfs
from banger.shell import Completed, find_tool, run

_DEADLINE_S = 30


def worker_debugfs(disk: Path) -> Debugfs:
    """Return debugfs on the disk at a path."""

    def start(*options: str, script: str, fds: Sequence[int] = ()) -> Completed:
        argv = (find_tool("debugfs"), *options, str(disk))
        return run(argv, deadline_s=_DEADLINE_S, good=ANY, stdin=script.encode(), pass_fds=fds)

    return Debugfs(start)
