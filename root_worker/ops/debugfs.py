"""debugfs and e2fsck on a guest's disk, as the VM's uid: root never parses what a guest has written.

The tools open the disk, and the files to write, by /proc/self/fd: exactly what root has opened and checked,
whatever is renamed meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from banger.contracts.errors import ToolFailedError
from banger.contracts.ext4 import REPLAY_JOURNAL_GOOD, REPLAY_JOURNAL_OPTIONS, damaged
from root_worker.shell import MAX_OUTPUT_BYTES, Completed, run, sandboxed, tool

_DEADLINE_S = 10
_ANY = range(-64, 256)  # debugfs's status says nothing about its commands, nor does the signal that ended it


class UnprivilegedDebugfs:
    """``banger.contracts.ext4.Debugfs`` on an opened disk, as ``uid``."""

    def __init__(self, disk: int, uid: int) -> None:
        self._disk = disk
        self._uid = uid
        found = os.fstat(disk)  # nobody makes a file larger than it is; a device cannot be
        self._size = found.st_size if stat.S_ISREG(found.st_mode) else None

    def replay_journal(self) -> None:
        """Bring a disk that was not unmounted up to date; StageFailedError when it is damaged."""
        argv = (tool("e2fsck"), *REPLAY_JOURNAL_OPTIONS, _path(self._disk))
        try:
            run(
                argv,
                deadline_s=_DEADLINE_S,
                good=REPLAY_JOURNAL_GOOD,
                pass_fds=(self._disk,),
                sandbox=sandboxed(self._uid, max_file=self._size),
            )
        except ToolFailedError as error:
            raise damaged(error.details) from error

    def read(self, script: str) -> bytes:
        """Run a script without write access and return stdout; debugfs is killed where that is too long."""
        return self._run((), script, (), MAX_OUTPUT_BYTES).stdout

    def write(self, contents: Sequence[bytes], script: Callable[[Sequence[str]], str]) -> bytes:
        """Run a script with write access, given paths of ``contents``; return stderr."""
        with _in_memory(contents) as fds:
            return self._run(("-w",), script([_path(fd) for fd in fds]), fds, self._size).stderr

    def _run(
        self, options: Sequence[str], script: str, fds: Sequence[int], max_file: int | None
    ) -> Completed:
        return run(
            (tool("debugfs"), *options, "-f", "-", _path(self._disk)),
            deadline_s=_DEADLINE_S,
            good=_ANY,
            stdin=script.encode(),
            pass_fds=(self._disk, *fds),
            sandbox=sandboxed(self._uid, max_file=max_file),
        )


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


@contextmanager
def _in_memory(contents: Sequence[bytes]) -> Iterator[list[int]]:
    fds: list[int] = []
    try:
        for content in contents:
            fds.append(os.memfd_create("guest-file"))
            with os.fdopen(fds[-1], "wb", closefd=False) as file:
                file.write(content)
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
