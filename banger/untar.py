"""Unpack a tar stream that a guest wrote. Nothing in it is believed.

Python 3.11.2 has no extraction filters, and they would not bound memory. So: every name stays below the one
root that was asked for, files are made anew, never through what the stream made before; links come last and
may not point outside; devices and the like are left out; and everything is counted.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import shutil
import tarfile
from pathlib import Path
from typing import IO

from banger.contracts.errors import ToolFailedError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 1 << 40
_MAX_HEADER_BYTES = 1 << 20
_MAX_NAME = 4096


class _Member(tarfile.TarInfo):
    """A member whose extended header is bounded: tarfile reads those into memory whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extended = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        if self.type in (*extended, tarfile.SOLARIS_XHDTYPE) and self.size > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def untar(stream: IO[bytes], root: str, into: Path) -> tuple[str, ...]:
    """Unpack the tree or file ``root`` of a plain tar stream below ``into``, an empty private directory.

    ``into/root`` is what comes of it: permission bits kept (no setuid, setgid, sticky), owner the caller.
    Returns what was left out: links that point outside, and what is neither file, directory nor link.
    ToolFailedError when the stream is damaged, too large, or names what is not below the root; ``into`` is
    then not to be used.
    """
    unpacking = _Unpacking(root, into)
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            unpacking.take(archive)
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        raise ToolFailedError("what the guest sent cannot be unpacked", details=str(error)) from error
    return tuple(unpacking.left_out)


class _Unpacking:
    def __init__(self, root: str, into: Path) -> None:
        self.left_out: list[str] = []
        self._root = root
        self._into = into
        self._bytes = 0
        self._modes: dict[str, int] = {}  # of directories, set last: one may be read-only
        self._symlinks: dict[str, str] = {}  # made last: nothing is ever written through one

    def take(self, archive: tarfile.TarFile) -> None:
        count = 0
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would remember them all
            count += 1
            if count > MAX_MEMBERS or len(member.name) > _MAX_NAME or len(member.linkname) > _MAX_NAME:
                raise tarfile.ReadError(f"more than {MAX_MEMBERS} files, or a name longer than {_MAX_NAME}")
            self._take_member(archive, member)
        for name, target in self._symlinks.items():
            (self._into / name).symlink_to(target)
        for name, mode in reversed(self._modes.items()):
            (self._into / name).chmod(mode)

    def _take_member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = self._below_root(member.name)
        path = self._into / name
        if member.isdir():
            path.mkdir(mode=0o700, exist_ok=name in self._modes)
            self._modes[name] = member.mode & 0o777
        elif member.isreg() and not member.issparse():  # a sparse one is terabytes in a few bytes
            self._bytes += member.size
            if self._bytes > MAX_BYTES:
                raise tarfile.ReadError(f"more than {MAX_BYTES} bytes")
            _write(archive, member, path)
        elif member.issym() and self._stays_inside(name, member.linkname):
            self._symlinks[name] = member.linkname
        elif member.islnk():
            path.hardlink_to(self._into / self._below_root(member.linkname))
        else:
            self.left_out.append(name)

    def _below_root(self, name: str) -> str:
        clean = posixpath.normpath(name)
        if not self._holds(clean):
            raise tarfile.ReadError(f"{name!r} is outside {self._root!r}")
        return clean

    def _stays_inside(self, name: str, target: str) -> bool:
        """Tell whether a symlink's target is below the root, whatever other links it leads through.

        Only leading ``..`` are taken: after a name, which may itself be a link, they lead nobody knows where.
        """
        words = [word for word in target.split("/") if word not in ("", ".")]
        climbs = len(words) - len([*itertools.dropwhile(lambda word: word == "..", words)])
        if not target or target.startswith("/") or ".." in words[climbs:]:
            return False
        return self._holds(posixpath.normpath(posixpath.join(posixpath.dirname(name), target)))

    def _holds(self, clean: str) -> bool:
        return clean == self._root or clean.startswith(f"{self._root}/")


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = archive.extractfile(member)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as target:
        if source is not None:
            shutil.copyfileobj(source, target)
        os.fchmod(target.fileno(), member.mode & 0o777)
        os.utime(target.fileno(), (member.mtime, member.mtime))
