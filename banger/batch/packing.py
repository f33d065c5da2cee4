"""The upload: paths of the plan's directory as one tar, the same bytes for the same files.

First all is looked at, then it is packed: what cannot go is named before anything is written.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from banger.batch.upload_tree import Entry, found, refuse_too_much, refuse_what_cannot_go
from banger.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class PackedInfo(NamedTuple):
    """What was packed: how many entries, the tar's length in bytes and its digest."""

    files: int
    bytes: int
    sha256: str


def pack(paths: Sequence[str], directory: Path, into: BinaryIO) -> PackedInfo:
    """Write a tar (GNU format) of paths relative to ``directory``, under the same paths; owner root.

    Left out is what .bangerignore says, and every ``.git`` that no path names. Symlinks stay symlinks.
    InvalidInputError, before anything is written, for a path that leads out of the directory or is not there,
    a symlink that leads out, what is neither file, directory nor symlink, and for too much of it all
    (``upload_tree``); and later, where a file changes meanwhile. OSError where ``into`` cannot be written.
    """
    root = directory.resolve()
    entries = found(paths, root)
    refuse_what_cannot_go(entries.values(), root)
    refuse_too_much(entries.values())
    tee = _Tee(into)
    with tarfile.open(fileobj=tee, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for entry in sorted(entries.values(), key=lambda entry: os.fsencode(entry.path)):
            _add(archive, entry, root)
    return PackedInfo(len(entries), tee.length, tee.digest.hexdigest())


class _Tee(io.RawIOBase):
    """Counts and digests what is written."""

    def __init__(self, into: BinaryIO) -> None:
        self._into = into
        self.length = 0
        self.digest = hashlib.sha256()

    def write(self, data: ReadableBuffer) -> int:
        block = bytes(data)
        self._into.write(block)
        self.length += len(block)
        self.digest.update(block)
        return len(block)


def _add(archive: tarfile.TarFile, entry: Entry, root: Path) -> None:
    member = tarfile.TarInfo(entry.path)
    member.mode = entry.status.st_mode & 0o777
    member.mtime = int(entry.status.st_mtime)
    member.uname = member.gname = "root"
    if stat.S_ISDIR(entry.status.st_mode):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif stat.S_ISLNK(entry.status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, entry.target
        archive.addfile(member)
    else:
        member.size = entry.status.st_size
        with _opened(entry, root) as file:
            _add_file(archive, member, file)


def _opened(entry: Entry, root: Path) -> BinaryIO:
    """Open a file, where it still is the one that was looked at."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(root / entry.path, flags), "rb")
    except OSError as error:
        raise InvalidInputError(f"{entry.path} cannot be uploaded: {error.strerror}") from None
    now, then = os.fstat(file.fileno()), entry.status
    if (now.st_dev, now.st_ino, now.st_size) != (then.st_dev, then.st_ino, then.st_size):
        file.close()
        raise _changed(entry.path)
    return file


def _add_file(archive: tarfile.TarFile, member: tarfile.TarInfo, file: BinaryIO) -> None:
    try:
        archive.addfile(member, file)
    except OSError as error:
        if error.errno is None:  # tarfile's own: there was less to read than there should be
            raise _changed(member.name) from None
        raise


def _changed(path: str) -> InvalidInputError:
    return InvalidInputError(
        f"{path} cannot be uploaded: it changed while it was packed",
        resolution="Try again when nothing writes there.",
    )
