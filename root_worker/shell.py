"""The one door through which root starts other programs.

An argv of strings whose binary is absolute, root's own and replaceable by nobody else; a fixed environment;
stdin and both outputs files in memory that cannot grow; a deadline; named good exit codes; one log line that
can be pasted. The process group outlives neither the call nor us. What reads guests' data runs in a sandbox.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from banger.contracts.errors import ToolFailedError
from banger.contracts.sandbox import mortal

TOOL_DIRECTORIES = (Path("/usr/sbin"), Path("/usr/bin"), Path("/sbin"), Path("/bin"))
ENVIRONMENT = {"PATH": ":".join(map(str, TOOL_DIRECTORIES)), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
MAX_OUTPUT_BYTES = 1024 * 1024

log = logging.getLogger("root_worker.shell")


class Completed(NamedTuple):
    """How a program ended: exit code (minus the signal that killed it), and the start of each stream."""

    code: int
    stdout: bytes
    stderr: bytes


def tool(name: str) -> str:
    """Return the absolute path of a system tool; ToolFailedError naming it when it is not installed."""
    for directory in TOOL_DIRECTORIES:
        path = directory / name
        if os.access(path, os.X_OK):
            return str(path)
    raise ToolFailedError(f"{name} is not installed", resolution="Run `banger doctor`: it names the package.")


def run(
    argv: Sequence[str],
    *,
    deadline_s: float,
    good: Collection[int] = (0,),
    stdin: bytes = b"",
    pass_fds: Sequence[int] = (),
    sandbox: Sequence[str] = (),
    max_output: int = MAX_OUTPUT_BYTES,
) -> Completed:
    """Run a program to its end and return what it printed.

    ``pass_fds`` stay open in the program under the same numbers. ``sandbox`` are the words that confine it
    (``banger.contracts.sandbox``). A write above ``max_output`` (bytes of each stream) fails in the program.
    ToolFailedError when a binary is not trusted, the exit code is not in ``good``, or the deadline (seconds)
    passes.
    """
    whole = (*sandbox, *argv)
    leashed = mortal(whole, tool)
    for name in {leashed[0], whole[0], argv[0]}:
        _check_binary(name)
    started = time.monotonic()
    with ExitStack() as stack:
        source, *outputs = (_memory(stack, *what) for what in ((stdin, len(stdin)), *[(b"", max_output)] * 2))
        process = subprocess.Popen(
            leashed,
            stdin=source,
            stdout=outputs[0],
            stderr=outputs[1],
            env=ENVIRONMENT,
            cwd="/",
            pass_fds=pass_fds,
            start_new_session=True,
        )
        ended = _wait(process, deadline_s)
        printed = [os.pread(fd, min(os.lseek(fd, 0, os.SEEK_CUR), max_output), 0) for fd in outputs]
    how = process.returncode if ended else "killed"
    log.info("ran %s -> %s in %.0f ms", shlex.join(whole), how, (time.monotonic() - started) * 1000)
    if not ended or process.returncode not in good:
        what = f"ended with {how}" if ended else f"did not end within {deadline_s:g} s and was killed"
        said = (printed[1] or printed[0]).decode(errors="replace").strip()
        raise ToolFailedError(
            f"{Path(argv[0]).name} {what}", details=f"{shlex.join(whole)}\n{said[-2000:]}".strip()
        )
    return Completed(process.returncode, *printed)


def _check_binary(name: str) -> None:
    """Refuse a program that anybody but root could have put there, or could put another in place of."""
    path = Path(name)
    if not path.is_absolute():
        raise ValueError(f"argv[0] must be an absolute path: {name!r}")
    try:
        os.path.realpath(path, strict=True)  # its symlinks come to an end
        places = [place.stat() for place in _led_through(path)]
    except OSError as error:
        raise ToolFailedError(f"{name} cannot be run: {error.strerror}") from error
    others = any(found.st_uid or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) for found in places)
    if others or not stat.S_ISREG(places[-1].st_mode):
        raise ToolFailedError(f"{name}, or a directory above it, is not what root alone can write")


def _led_through(path: Path) -> Iterator[Path]:
    """Yield the directories that lead to a file, those of each symlink among them, and the file.

    A program is run by the name that it has been asked for by: what it does may depend on that.
    """
    for place in (*reversed(path.parents), path):
        yield from _led_through(place.parent / place.readlink()) if place.is_symlink() else (place,)


def _memory(stack: ExitStack, content: bytes, size: int) -> int:
    """Return a file in memory, of this content and never of another size: nobody has to feed or drain it."""
    fd = os.memfd_create("stream", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, fd)
    os.ftruncate(fd, size)
    os.pwrite(fd, content, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def _wait(process: subprocess.Popen[bytes], deadline_s: float) -> bool:
    """Wait until the program ends, and kill what it leaves; False when the deadline came first."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(deadline_s * 1000))
    finally:
        os.close(pidfd)
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the group's number cannot be another's
        process.wait()
