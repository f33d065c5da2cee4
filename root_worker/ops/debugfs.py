"""debugfs and e2fsck on a guest's disk, in a sandbox of the VM's uid: root parses nothing that a guest wrote.

The tools open the disk, and the files to write, by /proc/self/fd: exactly what root has opened and checked,
whatever is renamed meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from banger.contracts.debugfs import ANY, Debugfs
from banger.contracts.errors import ToolFailedError
from banger.contracts.ext4 import REPLAY_JOURNAL_GOOD, REPLAY_JOURNAL_OPTIONS, damaged
from banger.contracts.sandbox import sandboxed
from root_worker.shell import MAX_OUTPUT_BYTES, Completed, run, tool

_DEADLINE_S = 10


def sandboxed_debugfs(disk: int, uid: int, root: Path) -> Debugfs:
    """Return debugfs on an opened disk, as ``uid``, who sees ``root``; stopped where it prints too much."""

    def start(*options: str, script: str, fds: Sequence[int] = ()) -> Completed:
        max_file = _size(disk) if "-w" in options else MAX_OUTPUT_BYTES
        return run(
            (tool("debugfs"), *options, f"/proc/self/fd/{disk}"),
            deadline_s=_DEADLINE_S,
            good=ANY,
            stdin=script.encode(),
            pass_fds=(disk, *fds),
            sandbox=sandboxed(uid, tool, root, max_file),
        )

    return Debugfs(start)


def replay_journal(disk: int, uid: int, root: Path) -> None:
    """Bring a disk that was not unmounted up to date, likewise; StageFailedError when it is damaged."""
    argv = (tool("e2fsck"), *REPLAY_JOURNAL_OPTIONS, f"/proc/self/fd/{disk}")
    sandbox = sandboxed(uid, tool, root, _size(disk))
    try:
        run(argv, deadline_s=_DEADLINE_S, good=REPLAY_JOURNAL_GOOD, pass_fds=(disk,), sandbox=sandbox)
    except ToolFailedError as error:
        raise damaged(error.details) from error


def _size(disk: int) -> int | None:
    """Return what no tool may make the disk larger than: a file's size. A device has one for good."""
    found = os.fstat(disk)
    return found.st_size if stat.S_ISREG(found.st_mode) else None
