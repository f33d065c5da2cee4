"""The one door through which root starts other programs.

An argv of strings whose binary is absolute, root's own and writable by nobody else; a fixed environment;
closed stdin unless bytes are given; a deadline; bounded output; named good exit codes; one log line that
can be pasted. The process group never outlives the call.
"""

from __future__ import annotations

import logging
import os
import selectors
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from banger.contracts.errors import ToolFailedError

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
    as_uid: int | None = None,
    max_output: int = MAX_OUTPUT_BYTES,
) -> Completed:
    """Run a program to its end and return what it printed.

    ``pass_fds`` stay open in the program under the same numbers. ``as_uid`` runs it as that uid and gid,
    without groups, without capabilities, and unable to gain any. ``max_output`` bounds what is kept of each
    stream (bytes). ToolFailedError when the binary is not trusted, the exit code is not in ``good``, or the
    deadline (seconds) passes.
    """
    _check_binary(argv[0])
    whole = (*_unprivileged(as_uid), *argv) if as_uid is not None else tuple(argv)
    started = time.monotonic()
    with _stdin_of(stdin) as source:
        process = subprocess.Popen(
            whole,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
            pass_fds=pass_fds,
            start_new_session=True,
        )
    completed = _collect(process, deadline_s, max_output)
    took_ms = (time.monotonic() - started) * 1000
    if completed is None:
        log.warning("ran %s -> killed after %.0f ms", shlex.join(whole), took_ms)
        raise ToolFailedError(
            f"{Path(argv[0]).name} did not end within {deadline_s:g} s and was killed",
            details=shlex.join(whole),
        )
    log.info("ran %s -> %s in %.0f ms", shlex.join(whole), completed.code, took_ms)
    if completed.code not in good:
        said = (completed.stderr or completed.stdout).decode(errors="replace").strip()
        raise ToolFailedError(
            f"{Path(argv[0]).name} ended with {completed.code}",
            details=f"{shlex.join(whole)}\n{said[-2000:]}",
        )
    return completed


def _check_binary(name: str) -> None:
    """Refuse a program that anybody but root could have put there."""
    if not name.startswith("/"):
        raise ValueError(f"argv[0] must be an absolute path: {name!r}")
    try:
        found = Path(name).resolve(strict=True).stat()
    except OSError as error:
        raise ToolFailedError(f"{name} cannot be run: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ToolFailedError(f"{name} is not a regular file that root alone can write")


def _unprivileged(uid: int) -> tuple[str, ...]:
    if uid < 1:
        raise ValueError(f"uid {uid} is not an unprivileged one")
    return (
        tool("setpriv"),
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--",
    )


@contextmanager
def _stdin_of(data: bytes) -> Iterator[int]:
    """Yield what the program reads: /dev/null, or a file in memory, which needs nobody to feed it."""
    fd = os.memfd_create("stdin") if data else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if data:
            with os.fdopen(fd, "wb", closefd=False) as file:
                file.write(data)
            os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _collect(process: subprocess.Popen[bytes], deadline_s: float, max_output: int) -> Completed | None:
    """Read both streams until the program ends; None when the deadline came first. Its group dies here."""
    deadline = time.monotonic() + deadline_s
    pidfd = os.pidfd_open(process.pid)
    pipes = [stream for stream in (process.stdout, process.stderr) if stream]
    output = {pipe.fileno(): bytearray() for pipe in pipes}
    ended = False
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ)
            for fd in output:
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ)
            while not ended and (left_s := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    if key.fd == pidfd:
                        ended = True
                    elif not _drain(key.fd, output[key.fd], max_output):
                        selector.unregister(key.fd)
    finally:
        # Not reaped yet, so the group's number cannot be another's.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(pidfd)
        for pipe in pipes:
            _drain(pipe.fileno(), output[pipe.fileno()], max_output)
            pipe.close()
    return Completed(process.returncode, *map(bytes, output.values())) if ended else None


def _drain(fd: int, into: bytearray, limit: int) -> bool:
    """Take what the pipe holds now; False at its end. What is above the limit is read and thrown away."""
    try:
        while chunk := os.read(fd, 65536):
            into += chunk[: max(0, limit - len(into))]
    except BlockingIOError:
        return True
    return False
