"""The one door through which the unprivileged side and the CLI start other programs.

An argv of strings, an absolute binary, a fixed environment, closed stdin unless bytes are given, a
deadline that kills the whole process group, bounded output, and one log line that can be pasted. A program
dies with whoever started it, so that a worker that comes after a killed one is alone on its disks.
Root has a door of its own: ``root_worker.shell``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from banger.contracts.errors import ToolFailedError
from banger.contracts.sandbox import mortal

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
}
MAX_OUTPUT_BYTES = 1024 * 1024
STOP_CHECK_S = 0.2

log = logging.getLogger("banger.shell")


class Completed(NamedTuple):
    """How a program ended: exit code, and the first MAX_OUTPUT_BYTES of each stream."""

    code: int
    stdout: bytes
    stderr: bytes


class Streamed(NamedTuple):
    """How a streamed program ended: exit code (negative: the signal), and what made it end."""

    code: int
    ended: Literal["itself", "stopped", "deadline"]


def find_tool(name: str) -> str:
    """Return the absolute path of a system tool; ToolFailedError naming it when it is not installed."""
    for directory in ENVIRONMENT["PATH"].split(":"):
        path = Path(directory, name)
        if os.access(path, os.X_OK):
            return str(path)
    raise ToolFailedError(f"{name} is not installed", resolution="Run `banger doctor`: it names the package.")


def run(
    argv: Sequence[str],
    *,
    deadline_s: float,
    good: Sequence[int] = (0,),
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    max_output: int = MAX_OUTPUT_BYTES,
) -> Completed:
    """Run a program to its end and return what it printed.

    ``env`` adds to the fixed environment; ``pass_fds`` stay open in the program under the same numbers.
    ToolFailedError when the exit code is not in ``good`` or the deadline (seconds) passes; the process
    group is killed then.
    """
    argv = tuple(argv)
    if not argv or not argv[0].startswith("/"):
        raise ValueError(f"argv[0] must be an absolute path: {argv[:1]}")
    started = time.monotonic()
    with _stdin_of(stdin) as source:
        process = subprocess.Popen(
            mortal(argv, find_tool),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT | (env or {}),
            cwd=cwd or "/",
            pass_fds=pass_fds,
            start_new_session=True,
        )
    completed = _collect(process, deadline_s, max_output)
    if completed is None:
        raise ToolFailedError(
            f"{Path(argv[0]).name} did not end within {deadline_s:g} s and was killed",
            details=shlex.join(argv),
        )
    log.info("ran %s -> %s in %.0f ms", shlex.join(argv), completed.code, (time.monotonic() - started) * 1000)
    if completed.code not in good:
        said = (completed.stderr or completed.stdout).decode(errors="replace").strip()
        raise ToolFailedError(
            f"{Path(argv[0]).name} ended with {completed.code}",
            details=f"{shlex.join(argv)}\n{said[-2000:]}",
        )
    return completed


def stream(
    argv: Sequence[str],
    *,
    deadline_s: float,
    emit: Callable[[Literal["stdout", "stderr"], bytes], None],
    stop: Callable[[], bool],
    stdin: bytes = b"",
) -> Streamed:
    """Run a program and hand on what it prints as it comes, each stream for itself, byte for byte.

    ``stop`` is asked every STOP_CHECK_S seconds. When it says so, or the deadline (seconds) passes, the
    process group is killed. What ended the program stands in the result; no exit code is an error.
    """
    started = asked = time.monotonic()
    stopped = False
    with (
        _stdin_of(stdin) as source,
        piped(argv, deadline_s=deadline_s, stdin=source) as process,
        selectors.DefaultSelector() as selector,
    ):
        selector.register(process.stdout, selectors.EVENT_READ, "stdout")  # type: ignore[arg-type]
        selector.register(process.stderr, selectors.EVENT_READ, "stderr")  # type: ignore[arg-type]
        while selector.get_map() and not stopped:
            for key, _ in selector.select(STOP_CHECK_S):
                if chunk := os.read(key.fd, 65536):
                    emit(key.data, chunk)
                else:
                    selector.unregister(key.fileobj)
            if time.monotonic() - asked >= STOP_CHECK_S:
                asked, stopped = time.monotonic(), stop()
        if stopped:
            _kill_group(process)
    took_s = time.monotonic() - started
    log.info("ran %s -> %s in %.0f ms", shlex.join(argv), process.returncode, took_s * 1000)
    if stopped:
        return Streamed(process.returncode, "stopped")
    return Streamed(process.returncode, "deadline" if took_s >= deadline_s else "itself")


@contextlib.contextmanager
def piped(
    argv: Sequence[str], *, deadline_s: float, stdin: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a started program whose stdout and stderr, and stdin unless given, are pipes of the caller's.

    Leaving the block waits for its end; an exception, or the deadline (seconds), kills the process group.
    """
    argv = tuple(argv)
    if not argv or not argv[0].startswith("/"):
        raise ValueError(f"argv[0] must be an absolute path: {argv[:1]}")
    process = subprocess.Popen(
        mortal(argv, find_tool),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )
    timer = threading.Timer(deadline_s, _kill_group, (process,))
    timer.daemon = True
    timer.start()
    try:
        yield process
        process.wait()
    finally:
        timer.cancel()
        _kill_group(process)
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def spawn(argv: Sequence[str], *, env: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Start a program that the caller watches and ends itself: a farm's services.

    ``env`` is all of its environment; what it prints is appended to the output file. It leads a session
    of its own.
    """
    if not argv or not argv[0].startswith("/"):
        raise ValueError(f"argv[0] must be an absolute path: {argv[:1]}")
    output.touch(mode=0o640)
    with output.open("ab") as sink:
        process = subprocess.Popen(
            tuple(argv),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    log.info("started %s as %d", shlex.join(argv), process.pid)
    return process


def attached(argv: Sequence[str], *, deadline_s: float | None = None) -> int:
    """Run a program on our own stdin, stdout and stderr and return its exit code (negative: the signal).

    It stays in our process group, so that the terminal's Ctrl-C reaches it too. TimeoutError when the
    deadline (seconds) passes; the program is killed then, as it is on any exception.
    """
    with subprocess.Popen(_absolute(argv), env=_terminal_environment()) as process:
        try:
            return process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{argv[0]} did not end within {deadline_s:g} s") from None
        finally:
            process.kill()


def become(argv: Sequence[str]) -> NoReturn:
    """Become another program, on our own terminal, for good."""
    argv = _absolute(argv)
    sys.stdout.flush()
    os.execve(argv[0], argv, _terminal_environment())  # noqa: S606 - no shell is what we want


def _absolute(argv: Sequence[str]) -> tuple[str, ...]:
    if not argv or not argv[0].startswith("/"):
        raise ValueError(f"argv[0] must be an absolute path: {argv[:1]}")
    return tuple(argv)


def _terminal_environment() -> dict[str, str]:
    """Return the fixed environment, and what kind of terminal we are on."""
    return ENVIRONMENT | {name: os.environ[name] for name in ("TERM", "COLORTERM") if name in os.environ}


@contextlib.contextmanager
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
    """Read both streams until the program ends; None when the deadline came first. Its group dies here.

    The end is an event like the others (a pidfd): ``Popen.wait`` with a timeout polls for it at ever longer
    intervals, and sees a program of 16 ms after 31.
    """
    deadline = time.monotonic() + deadline_s
    pidfd = os.pidfd_open(process.pid)
    pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe]
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
        _kill_group(process)
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


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        process.wait()
