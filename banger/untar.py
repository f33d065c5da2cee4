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
from typing import IO, NamedTuple

from banger.contracts.errors import ToolFailedError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 1 << 40
_MAX_HEADER_BYTES = 1 << 20
_MAX_NAME = 4096
# What tarfile raises over damage; the last four are its own slips over headers that are made to hurt.
_DAMAGE = (
    *(tarfile.TarError, OSError, ValueError, OverflowError, EOFError),
    *(IndexError, KeyError, TypeError, RecursionError),
)


class Bounds(NamedTuple):
    """What a stream may hold at most; directories that its names imply are members too."""

    members: int = MAX_MEMBERS
    bytes: int = MAX_BYTES
    depth: int = _MAX_NAME


class Unpacked(NamedTuple):
    """What came of a stream: what was left out of it, and why it was not taken to its end ("": it was)."""

    left_out: tuple[str, ...]
    broke_off: str


class _Member(tarfile.TarInfo):
    """A member whose headers are bounded: tarfile reads extended ones whole, and adds global ones up.

    The maps of sparse files are not read: such a file is left out, and reading one may have no end.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extended = (
            tarfile.XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.SOLARIS_XHDTYPE,
        )
        if self.type in extended and self.size > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        if self.size < 0 or self.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_SPARSE):
            raise tarfile.ReadError("a header that no guest's tar has need of")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]

    def _proc_gnusparse_00(self, member: tarfile.TarInfo, *_headers: object) -> None:
        member.sparse = b""  # not None: that is all that `issparse` asks

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def untar(stream: IO[bytes], root: str, into: Path) -> tuple[str, ...]:
    """Unpack the tree or file ``root`` of a plain tar stream below ``into``, an empty private directory.

    ``into/root`` is what comes of it: permission bits kept (no setuid, setgid, sticky), owner the caller.
    Returns what was left out: links that point outside, and what is neither file, directory nor link.
    ToolFailedError when the stream is damaged, too large, or names what is not below the root; ``into`` is
    then not to be used.
    """
    unpacking = _Unpacking(root, into, Bounds(MAX_MEMBERS, MAX_BYTES), lenient=False)
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            unpacking.take(archive)
        unpacking.finish()
    except _DAMAGE as error:
        raise ToolFailedError("what the guest sent cannot be unpacked", details=str(error)) from error
    return tuple(unpacking.left_out)


def untar_what_is_whole(stream: IO[bytes], into: Path, bounds: Bounds) -> Unpacked:
    """Unpack tars in a row, of any relative names, below ``into``, until there is something wrong with them.

    ``into`` is an empty private directory; what came before the fault is whole in it, and the caller may read
    and remove all of it, whatever the stream says of modes. No error of the stream's is raised.
    """
    unpacking = _Unpacking(".", into, bounds, lenient=True)
    broke_off = ""
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member, ignore_zeros=True) as archive:
            unpacking.take(archive)
    except _DAMAGE as error:
        broke_off = str(error) or type(error).__name__
    unpacking.finish()
    return Unpacked(tuple(unpacking.left_out), broke_off)


class _Unpacking:
    def __init__(self, root: str, into: Path, bounds: Bounds, lenient: bool) -> None:
        self.left_out: list[str] = []
        self._root = root
        self._into = into
        self._bounds = bounds
        self._lenient = lenient
        self._own_bits = 0o600 if lenient else 0  # of a file's mode, whatever the stream says
        self._members = 0
        self._bytes = 0
        self._modes: dict[str, int] = {}  # of directories, set last: one may be read-only
        self._symlinks: dict[str, str] = {}  # made last: nothing is ever written through one

    def take(self, archive: tarfile.TarFile) -> None:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would remember them all
            if len(member.name) > _MAX_NAME or len(member.linkname) > _MAX_NAME:
                raise tarfile.ReadError(f"a name longer than {_MAX_NAME}")
            self._count_member()
            self._take_member(archive, member)

    def finish(self) -> None:
        """Make the links, and give directories their modes: nothing is written after."""
        for name, target in self._symlinks.items():
            try:
                (self._into / name).symlink_to(target)
            except OSError:  # the stream has something else of that name, or the target is no name at all
                if not self._lenient:
                    raise
                self.left_out.append(name)
        for name, mode in reversed(self._modes.items()):
            (self._into / name).chmod(mode | (0o700 if self._lenient else 0))

    def _count_member(self) -> None:
        self._members += 1
        if self._members > self._bounds.members:
            raise tarfile.ReadError(f"more than {self._bounds.members} files")

    def _count_bytes(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._bounds.bytes:
            raise tarfile.ReadError(f"more than {self._bounds.bytes} bytes")

    def _take_member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = self._below_root(member.name)
        path = self._into / name
        if member.size < 0:  # an extended header may say so still
            raise tarfile.ReadError(f"{name!r} has {member.size} bytes")
        self._make_parents(name)
        if name == ".":
            return  # that is ``into``, which is the caller's
        if member.isdir():
            path.mkdir(mode=0o700, exist_ok=name in self._modes)
            self._modes[name] = member.mode & 0o777
        elif member.isreg() and not member.issparse():  # a sparse one is terabytes in a few bytes
            self._count_bytes(member.size)
            _write(archive, member, path, self._own_bits)
        elif member.issym() and self._stays_inside(name, member.linkname):
            self._symlinks[name] = member.linkname
        elif member.islnk():
            path.hardlink_to(self._into / self._below_root(member.linkname))
            self._count_bytes(path.lstat().st_size)  # it takes no room, and is read once more
        else:
            self.left_out.append(name)

    def _make_parents(self, name: str) -> None:
        """Make the directories that the stream has no entry of; no link is there yet that they could be."""
        parents = list(Path(name).parents)[:-1]
        if len(parents) > self._bounds.depth:
            raise tarfile.ReadError(f"a name of {len(parents)} directories")
        for parent in map(str, reversed(parents)):
            if parent not in self._modes:
                self._count_member()
                (self._into / parent).mkdir(mode=0o700)
                self._modes[parent] = 0o755

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
        if self._root == ".":
            return clean != ".." and not clean.startswith(("/", "../"))
        return clean == self._root or clean.startswith(f"{self._root}/")


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, own_bits: int) -> None:
    """Write a file whole, or leave none."""
    source = archive.extractfile(member)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as target:
            if source is not None:
                shutil.copyfileobj(source, target)
            os.fchmod(target.fileno(), member.mode & 0o777 | own_bits)
            os.utime(target.fileno(), (member.mtime, member.mtime))
    except BaseException:
        path.unlink()
        raise
