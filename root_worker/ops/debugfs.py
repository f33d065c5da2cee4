"""debugfs and e2fsck on a guest's disk, as the VM's uid: root never parses what a guest has written.

The tools open the disk, and the files to write, by /proc/self/fd: exactly what root has opened and checked,
whatever is renamed meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from banger.contracts.errors import StageFailedError, ToolFailedError
from banger.contracts.ext4 import REPLAY_JOURNAL_GOOD, REPLAY_JOURNAL_OPTIONS
from root_worker.shell import Completed, run, tool

_DEADLINE_S = 10
_MAX_OUTPUT_BYTES = 8 * 1024 * 1024  # all guest files at their largest, and what stat says of each
_ANY = range(256)  # debugfs's status says nothing about its commands


class UnprivilegedDebugfs:
    """``banger.contracts.ext4.Debugfs`` on an opened disk, as ``uid``."""

    def __init__(self, disk: int, uid: int) -> None:
        self._disk = disk
        self._uid = uid

    def replay_journal(self) -> None:
        """Bring a disk that was not unmounted up to date; StageFailedError when it is damaged."""
        argv = (tool("e2fsck"), *REPLAY_JOURNAL_OPTIONS, _path(self._disk))
        try:
            run(
                argv,
                deadline_s=_DEADLINE_S,
                good=REPLAY_JOURNAL_GOOD,
                pass_fds=(self._disk,),
                as_uid=self._uid,
            )
        except ToolFailedError as error:
            raise StageFailedError(
                "The guest's file system is damaged",
                details=error.details,
                resolution="It is not booted like this. Delete the VM, or restore its overlay.",
            ) from error

    def read(self, script: str) -> bytes:
        """Run a script without write access and return stdout."""
        return self._run((), script, ()).stdout

    def write(self, contents: Sequence[bytes], script: Callable[[Sequence[str]], str]) -> bytes:
        """Run a script with write access, given paths of ``contents``; return stderr."""
        with _in_memory(contents) as fds:
            return self._run(("-w",), script([_path(fd) for fd in fds]), fds).stderr

    def _run(self, options: Sequence[str], script: str, fds: Sequence[int]) -> Completed:
        return run(
            (tool("debugfs"), *options, "-f", "-", _path(self._disk)),
            deadline_s=_DEADLINE_S,
            good=_ANY,
            stdin=script.encode(),
            pass_fds=(self._disk, *fds),
            as_uid=self._uid,
            max_output=_MAX_OUTPUT_BYTES,
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
