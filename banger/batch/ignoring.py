"""What ``.bangerignore`` leaves out of an upload, with the meaning that ``.gitignore`` has to git."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path

import pathspec

from banger.contracts.errors import InvalidInputError

IGNORE_FILE = ".bangerignore"
_MAX_BYTES = 256 * 1024


class Ignored:
    """Answers for the paths below a directory. Each directory may have a file of its own, deeper ones win."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._specs: dict[str, pathspec.GitIgnoreSpec | None] = {}

    def has(self, path: str, *, is_directory: bool) -> bool:
        """Tell if a path is left out, where no directory above it is. InvalidInputError for a bad file."""
        for base in _above(path):
            if (spec := self._spec(base)) is None:
                continue
            below = posixpath.relpath(path, base or ".") + ("/" if is_directory else "")
            if (answer := spec.check_file(below).include) is not None:
                return answer
        return False

    def first_of(self, path: str, *, is_directory: bool) -> str | None:
        """Return the path, or the first directory above it, that is left out; None where all is in."""
        parents = [base for base in _above(path) if base][::-1]
        for part in parents:
            if self.has(part, is_directory=True):
                return part
        return path if self.has(path, is_directory=is_directory) else None

    def _spec(self, base: str) -> pathspec.GitIgnoreSpec | None:
        if base not in self._specs:
            self._specs[base] = _read(self._directory, posixpath.join(base, IGNORE_FILE))
        return self._specs[base]


def _above(path: str) -> Iterator[str]:
    """Yield the directories that a path is in, the nearest first, the last being "", which all are in."""
    while path:
        path = posixpath.dirname(path)
        yield path


def _read(directory: Path, name: str) -> pathspec.GitIgnoreSpec | None:
    try:  # as git does, a symlink is not followed: it might lead anywhere
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInputError(f"{name} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInputError(f"{name} is not a regular file")
        text = os.read(descriptor, _MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(text) > _MAX_BYTES:
        raise InvalidInputError(f"{name} is larger than {_MAX_BYTES // 1024} KiB")
    try:
        return pathspec.GitIgnoreSpec.from_lines(text.decode(errors="surrogateescape").splitlines())
    except ValueError as error:
        raise InvalidInputError(f"{name} has a pattern that cannot be read", details=str(error)) from None
