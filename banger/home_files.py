"""Read files beneath a home, and never anything outside it, whatever is done to the home meanwhile.

A way is walked component by component from the home's descriptor. A symlink is read and its target walked in
turn: one that stays inside is as good as its target, one that leaves is refused. What was found is what is
opened, by descriptor: no name is looked up twice, so nothing can change between check and use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_MAX_LINKS = 40  # as many as the kernel follows
_MAX_DEPTH = 16
_MAX_VISITS = 1000
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class HomeError(Exception):
    """What was asked for cannot be read from a home; the text is a sentence that says why."""


class HomeFile(NamedTuple):
    """A regular file: its path beneath what was asked for (``.`` for that itself), bytes, permission bits."""

    name: PurePosixPath
    content: bytes
    mode: int


def read_home(home: Path, path: str, max_bytes: int) -> Iterator[HomeFile]:
    """Yield the file at ``path`` (absolute, or ``~/…``), or all files of the directory there, by name.

    HomeError where the way leaves the home, where nothing is there, or what is neither file nor directory, or
    another user's file, where a file holds more than ``max_bytes``, or a directory too many names.
    """
    try:
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HomeError(f"the home {home} cannot be opened: {error.strerror}") from None
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise HomeError(f"the home {home} is not that of the user who runs banger")
        walk = _Walk(home, descriptor)
        yield from _Reader(walk, walk.beneath(path), max_bytes).files(())
    except OSError as error:
        raise HomeError(f"it cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


class _Walk(NamedTuple):
    """Finds the way to anything in a home that is held open."""

    home: Path
    descriptor: int

    def beneath(self, path: str) -> tuple[str, ...]:
        """Return the components of a path below the home, going by its text."""
        if path.startswith("~/"):
            return tuple(path[2:].split("/"))
        for spelling in (str(self.home), str(self.home.resolve())):
            if f"{path}/".startswith(f"{spelling}/"):
                return tuple(path[len(spelling) :].split("/"))
        raise HomeError(f"it leaves the home {self.home}")

    @contextmanager
    def to(self, way: Sequence[str]) -> Iterator[int]:
        """Yield what lies at the end of the way, as a descriptor that can be asked and opened anew."""
        passed: list[int] = []  # below the home, outermost first: all that ``..`` may go back to
        try:
            self._go(passed, way)
            yield passed[-1] if passed else self.descriptor
        finally:
            for descriptor in passed:
                os.close(descriptor)

    def _go(self, passed: list[int], way: Sequence[str]) -> None:
        ahead, links = list(reversed(way)), 0
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not passed:
                    raise HomeError(f"a symlink leaves the home {self.home}")
                os.close(passed.pop())
                continue
            passed.append(os.open(part, _PATH, dir_fd=passed[-1] if passed else self.descriptor))
            if not stat.S_ISLNK(os.fstat(passed[-1]).st_mode):
                continue
            target = os.readlink("", dir_fd=passed[-1])
            os.close(passed.pop())
            links += 1
            if links > _MAX_LINKS:
                raise HomeError("too many symlinks lead to it")
            if target.startswith("/"):
                ahead += reversed(self.beneath(target))
                while passed:
                    os.close(passed.pop())
            else:
                ahead += reversed(target.split("/"))


class _Reader:
    """Reads a file, or a tree of them, with one count of names for all of it."""

    def __init__(self, walk: _Walk, start: tuple[str, ...], max_bytes: int) -> None:
        self._walk, self._start, self._max_bytes = walk, start, max_bytes
        self._visits = 0

    def files(self, name: tuple[str, ...]) -> Iterator[HomeFile]:
        """Yield what is at ``name``, components below the start."""
        self._visits += 1
        if self._visits > _MAX_VISITS or len(name) > _MAX_DEPTH:
            raise HomeError(f"it holds more than {_MAX_VISITS} names, or they lie deeper than {_MAX_DEPTH}")
        with self._walk.to((*self._start, *name)) as found:
            mode = os.fstat(found).st_mode
            if not stat.S_ISDIR(mode):
                yield HomeFile(PurePosixPath(*name), self._content(found, name), stat.S_IMODE(mode))
                return
            with _opened(found, os.O_DIRECTORY) as directory, os.scandir(directory) as entries:
                children = sorted(entry.name for entry in entries)
        for child in children:
            yield from self.files((*name, child))

    def _content(self, found: int, name: tuple[str, ...]) -> bytes:
        about = "/".join(name) or "it"
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            raise HomeError(f"{about} is neither a file nor a directory")
        if status.st_uid != os.geteuid():
            raise HomeError(f"{about} belongs to another user")
        with _opened(found, 0) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(self._max_bytes + 1)
        if len(content) > self._max_bytes:
            raise HomeError(f"{about} holds more than {self._max_bytes // 1024} KiB")
        return content


@contextmanager
def _opened(found: int, flags: int) -> Iterator[int]:
    """Open for reading the very thing that a path-only descriptor stands for."""
    descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
