"""Copy files and directories between this machine and a guest: tar over ssh, such as busybox knows it."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from banger.contracts.errors import BangerError, ConflictError, NotFoundError, ToolFailedError
from banger.shell import piped, run
from banger.untar import untar

_MAX_STDERR_BYTES = 64 * 1024
_ASK_DEADLINE_S = 30.0

SshArgv = Callable[[Sequence[str]], tuple[str, ...]]
"""Makes ssh's command line for a guest command: ``functools.partial(ssh_argv, keys, vm_id, address)``."""


def copy_from_guest(ssh: SshArgv, source: str, target: Path, *, deadline_s: float) -> tuple[str, ...]:
    """Copy the guest's file or directory into the directory ``target``, or to that name.

    A file that exists is replaced, whole or not at all; a directory that exists is refused (ConflictError).
    Returns what was left out: links that point outside the copied tree, and devices, sockets and the like.
    NotFoundError when either side has no such place; ToolFailedError when the copying failed (deadline in
    seconds).
    """
    asked_for = posixpath.basename(source.rstrip("/")) or "root"
    place = target / asked_for if target.is_dir() else target
    if not place.parent.is_dir():
        raise NotFoundError(f"{place.parent} is not a directory of this machine")
    if place.is_dir():
        raise ConflictError(f"{place} is a directory already", resolution="Remove it, or give another name.")
    parent, name = posixpath.split(_real_path(ssh, source))
    scratch = Path(tempfile.mkdtemp(prefix=".banger-copy-", dir=place.parent))
    try:
        left_out = _receive(ssh(("tar", "-C", parent, "-cf", "-", f"./{name}")), name, scratch, deadline_s)
        if not os.path.lexists(scratch / name):
            raise NotFoundError(f"{source} is neither a file nor a directory of the guest")
        (scratch / name).replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return left_out


def copy_to_guest(ssh: SshArgv, source: Path, target: str, *, deadline_s: float) -> None:
    """Copy a file or directory of this machine into the guest's directory ``target``, or to that name.

    It belongs to the guest's root; permission bits and links are kept, and a directory that exists there is
    merged into. NotFoundError when either side has no such place; ToolFailedError when the copying failed.
    """
    real = source.resolve()
    if not real.exists():
        raise NotFoundError(f"{source} does not exist on this machine")
    is_directory = run(ssh(("test", "-d", target)), deadline_s=_ASK_DEADLINE_S, good=(0, 1)).code == 0
    parent, name = (target, source.absolute().name) if is_directory else posixpath.split(target)
    if not name:
        raise NotFoundError(f"{target} is not a directory of the guest")
    with _conversation(ssh(("tar", "-C", parent or ".", "-xf", "-")), deadline_s) as process:
        assert process.stdout is not None  # noqa: S101 - `piped` makes all three
        process.stdout.close()
        with (
            contextlib.suppress(BrokenPipeError),  # the guest's tar gave up; it says why
            tarfile.open(fileobj=process.stdin, mode="w|", format=tarfile.GNU_FORMAT) as archive,
        ):
            archive.add(real, arcname=f"./{name}", filter=_as_root)


def send_stream(argv: Sequence[str], stream: IO[bytes], deadline_s: float) -> None:
    """Give a guest's command a stream on its stdin; raises what it complained of where it failed."""
    with _conversation(argv, deadline_s) as process:
        assert process.stdin is not None  # noqa: S101 - `piped` makes all three
        assert process.stdout is not None  # noqa: S101
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # it gave up; it says why
            shutil.copyfileobj(stream, process.stdin)


def take_stream(argv: Sequence[str], said: bytes, into: IO[bytes], max_bytes: int, deadline_s: float) -> bool:
    """Write what a guest's command prints to a file, ``max_bytes`` of it at most, having told it ``said``.

    Tells whether that was all; a command that had more to say is cut off.
    """
    with os.fdopen(os.memfd_create("stdin"), "w+b") as source:
        source.write(said)
        source.seek(0)
        try:
            with _conversation(argv, deadline_s, stdin=source.fileno()) as process:
                assert process.stdout is not None  # noqa: S101 - `piped` makes it
                _copy_bounded(process.stdout, into, max_bytes)
        except _TooMuchError:
            return False
    return True


class _TooMuchError(Exception):
    """A guest's command prints more than is taken."""


def _copy_bounded(stream: IO[bytes], into: IO[bytes], max_bytes: int) -> None:
    left = max_bytes
    while chunk := os.read(stream.fileno(), 65536):
        into.write(chunk[:left])
        left -= len(chunk)
        if left < 0:
            raise _TooMuchError


def _receive(argv: Sequence[str], name: str, scratch: Path, deadline_s: float) -> tuple[str, ...]:
    refusal: ToolFailedError | None = None
    left_out: tuple[str, ...] = ()
    with _conversation(argv, deadline_s) as process:
        assert process.stdin is not None  # noqa: S101 - `piped` makes all three
        assert process.stdout is not None  # noqa: S101
        process.stdin.close()
        try:
            left_out = untar(process.stdout, name, scratch)
            while process.stdout.read(65536):
                pass  # the padding after the archive's end; a tar that cannot write it fails
        except ToolFailedError as error:
            refusal = error
            process.stdout.close()
    if refusal is not None:
        raise refusal
    return left_out


@contextlib.contextmanager
def _conversation(
    argv: Sequence[str], deadline_s: float, stdin: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a guest's tar behind ssh; raise what it or ssh complained of when it ends with an error."""
    said = bytearray()
    started = time.monotonic()
    with piped(argv, deadline_s=deadline_s, stdin=stdin) as process:
        listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
        listener.start()
        yield process
        if process.stdin is not None and not process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        process.wait()
        listener.join(timeout=1)
    if process.returncode == 0:
        return
    if time.monotonic() - started >= deadline_s:
        raise ToolFailedError(f"the copy did not end within {deadline_s:g} s and was cut off")
    raise _complaint(said.decode(errors="replace").strip(), process.returncode)


def _listen(process: subprocess.Popen[bytes], said: bytearray) -> None:
    with contextlib.suppress(ValueError):  # closed under us, at the end
        while chunk := os.read(process.stderr.fileno(), 4096):  # type: ignore[union-attr]
            said += chunk[: max(0, _MAX_STDERR_BYTES - len(said))]


def _complaint(said: str, code: int) -> BangerError:
    if "No such file or directory" in said or "can't change directory" in said:
        return NotFoundError("the guest has no such file or directory", details=said)
    return ToolFailedError("the copy failed", details=said or f"tar ended with {code}")


def _real_path(ssh: SshArgv, source: str) -> str:
    """Return the absolute path that a guest's path leads to: what is asked for by a link's name is copied."""
    completed = run(ssh(("readlink", "-f", source)), deadline_s=_ASK_DEADLINE_S, good=(0, 1))
    path = completed.stdout.decode(errors="surrogateescape").removesuffix("\n")
    if completed.code != 0 or not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
        raise NotFoundError(f"{source} is no file or directory of the guest that can be copied")
    return path


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
