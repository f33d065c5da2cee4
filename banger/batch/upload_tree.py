"""What an upload comes to: the files that its paths name, and whether they may and can go into a guest."""

from __future__ import annotations

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from banger.batch.ignoring import IGNORE_FILE, Ignored
from banger.contracts.errors import InvalidInputError

MAX_UPLOAD_BYTES = 256 * 1024 * 1024
MAX_UPLOAD_FILES = 50_000
_MAX_SEEN = 1_000_000  # so much is looked at, to say what is biggest
_MAX_NAMED = 10
_MIB = 1024 * 1024


class Entry(NamedTuple):
    """A file, directory or symlink: its path below the plan's directory, and what it was when looked at."""

    path: str
    status: os.stat_result
    target: str = ""  # of a symlink


def found(paths: Sequence[str], root: Path) -> dict[str, Entry]:
    """Return what the paths come to, by path, with the directories above them.

    InvalidInputError for a path that leads out of ``root``, is not there, or is left out by the ignore file.
    """
    ignored = Ignored(root)
    entries: dict[str, Entry] = {}
    for given in paths:
        path = _clean(given)
        above = _look_above(path, root)
        entry = _look(path, root) if path else None
        is_directory = entry is None or stat.S_ISDIR(entry.status.st_mode)
        if (out := ignored.first_of(path, is_directory=is_directory)) if path else None:
            raise InvalidInputError(
                f"{path} is to be uploaded, and {IGNORE_FILE} leaves {out} out",
                resolution=f"Take it out of one of them, or add a line like !{out} to {IGNORE_FILE}.",
            )
        found = [*above, *([entry] if entry else [])]
        entries |= {item.path: item for item in found}
        if is_directory:
            for item in below(path, root, ignored):
                entries[item.path] = item
                if len(entries) > _MAX_SEEN:
                    refuse_too_much(entries.values())
    return entries


def _clean(path: str) -> str:
    """Return a relative path without ``.`` and doubled slashes; "" for the directory itself."""
    if path.startswith("/") or ".." in path.split("/") or "\x00" in path or not path:
        raise InvalidInputError(
            f"{path!r} cannot be uploaded: it is not a path below the plan's directory",
            resolution="Uploads are relative to the plan's directory, without `..`; put the plan further up.",
        )
    clean = posixpath.normpath(path)
    return "" if clean == "." else clean


def _look_above(path: str, root: Path) -> list[Entry]:
    """Return the directories above a path; one that is a symlink would put the path where it is not."""
    parts = path.split("/")[:-1]
    entries = [_look("/".join(parts[:end]), root) for end in range(1, len(parts) + 1)]
    for entry in entries:
        if not stat.S_ISDIR(entry.status.st_mode):
            raise InvalidInputError(
                f"{path} cannot be uploaded: {entry.path} is not a directory",
                resolution="Name the path that a symlink leads to.",
            )
    return entries


def _look(path: str, root: Path) -> Entry:
    place = root / path
    try:
        status = place.lstat()
        target = str(place.readlink()) if stat.S_ISLNK(status.st_mode) else ""
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be uploaded: {error.strerror}") from None
    return Entry(path, status, target)


def below(top: str, root: Path, ignored: Ignored) -> Iterator[Entry]:
    """Yield all that is below a directory and not left out. No symlink is followed."""
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        try:
            names = [path.name for path in (root / directory).iterdir()]
        except OSError as error:
            raise InvalidInputError(f"{directory or '.'} cannot be uploaded: {error.strerror}") from None
        for name in names:
            if name == ".git":  # a directory, or a worktree's file: whole histories, and credentials
                continue
            entry = _look(posixpath.join(directory, name), root)
            is_directory = stat.S_ISDIR(entry.status.st_mode)
            if ignored.has(entry.path, is_directory=is_directory):
                continue
            yield entry
            if is_directory:
                waiting.append(entry.path)


def refuse_what_cannot_go(entries: Iterable[Entry], root: Path) -> None:
    """Raise InvalidInputError, with names, for symlinks that lead out and for what is no file at all."""
    reasons = sorted(
        f"{entry.path}: {why}" for entry in entries if (why := _why_it_cannot_go(entry, root)) is not None
    )
    if not reasons:
        return
    more = [f"and {len(reasons) - _MAX_NAMED} more"] if len(reasons) > _MAX_NAMED else []
    raise InvalidInputError(
        "some of what is to be uploaded cannot go into a guest",
        details="\n".join(reasons[:_MAX_NAMED] + more),
        resolution=f"Leave them out by lines in {IGNORE_FILE}, or put files in their place.",
    )


def _why_it_cannot_go(entry: Entry, root: Path) -> str | None:
    mode = entry.status.st_mode
    if stat.S_ISLNK(mode):
        return None if _stays_inside(entry, root) else f"is a symlink that leads out, to {entry.target}"
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "is neither a file, a directory nor a symlink"
    if stat.S_ISREG(mode) and not os.access(root / entry.path, os.R_OK):
        return "cannot be read"
    return None


def _stays_inside(entry: Entry, root: Path) -> bool:
    """Tell whether a symlink leads below the root: read as text, and through all other links there are."""
    text = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.target))
    if entry.target.startswith("/") or text == ".." or text.startswith("../"):
        return False
    try:
        return (root / entry.path).resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link that leads to itself leads nowhere else
        return True


def refuse_too_much(entries: Iterable[Entry]) -> None:
    """Raise InvalidInputError, saying what is biggest, for more than MAX_UPLOAD_BYTES or MAX_UPLOAD_FILES."""
    found = [*entries]
    size = sum(map(_size, found))
    if size <= MAX_UPLOAD_BYTES and len(found) <= MAX_UPLOAD_FILES:
        return
    raise InvalidInputError(
        f"the upload has {size // _MIB} MiB in {len(found)} files and directories; "
        f"{MAX_UPLOAD_BYTES // _MIB} MiB and {MAX_UPLOAD_FILES} is the most",
        details="\n".join(("biggest are:", *_biggest(found, by_size=size > MAX_UPLOAD_BYTES))),
        resolution=f"Leave out what the jobs do not need: a line each in {IGNORE_FILE}, such as those paths.",
    )


def _biggest(entries: Sequence[Entry], *, by_size: bool) -> Iterator[str]:
    """Yield the files, and directories two levels deep, that hold most, as the ignore file would say them."""
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for entry in entries:
        if stat.S_ISDIR(entry.status.st_mode):
            continue
        parts = entry.path.split("/")
        name = f"/{'/'.join(parts[:2])}/" if len(parts) > 2 else f"/{entry.path}"
        sizes[name] += _size(entry)
        counts[name] += 1
    for name, _ in (sizes if by_size else counts).most_common(5):
        yield f"{name}  {sizes[name] / _MIB:.1f} MiB in {counts[name]} files"


def _size(entry: Entry) -> int:
    return entry.status.st_size if stat.S_ISREG(entry.status.st_mode) else 0
