"""A job's artifacts and JUnit files on the front: a guest's tar, unpacked below one directory."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from banger.untar import Bounds, untar_what_is_whole

ARTIFACT_BOUNDS = Bounds(members=50_000, bytes=16 << 30, depth=64)
JUNIT_BOUNDS = Bounds(members=2_000, bytes=64 << 20, depth=64)  # all of it is parsed, by the worker too
_END_OF_TAR = bytes(1024)
_NAMED = 5


class UnpackedFiles(NamedTuple):
    """What came of a job's tar: regular files, relative to the directory, and what to say of the rest."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def job_directory(index: int, total: int) -> str:
    """Return the name of a job's directory: of one width in a batch, so that they sort."""
    return f"job-{index:0{max(3, len(str(total - 1)))}}"


def unpack_files(tar: Path, into: Path, bounds: Bounds = ARTIFACT_BOUNDS) -> UnpackedFiles:
    """Unpack a job's tar as the directory ``into``; what an earlier fetch left there is replaced.

    The tar is a guest's: nothing lands outside, no link leads out, no special file is made, and a tar that
    was cut or is damaged gives what is whole before that, and a note. OSError when this machine's disk fails
    us before there is anything to unpack.
    """
    scratch = into.with_name(f".{into.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, mode=0o755)
    try:
        notes = _unpack(tar, scratch, bounds) if tar.stat().st_size else ()  # of no files there is no tar
        if into.exists():
            shutil.rmtree(into)
        scratch.replace(into)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return UnpackedFiles(_regular_files(into), notes)


def _unpack(tar: Path, into: Path, bounds: Bounds) -> tuple[str, ...]:
    with tar.open("rb") as stream:
        unpacked = untar_what_is_whole(stream, into, bounds)
    return _notes(unpacked.left_out, unpacked.broke_off or _is_cut(tar))


def _is_cut(tar: Path) -> str:
    """Tell why a tar is not whole, where its own members did not: it lacks the zeros that a tar ends with."""
    with tar.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - len(_END_OF_TAR)))
        return "" if stream.read() == _END_OF_TAR else "it has no end"


def _notes(left_out: tuple[str, ...], broke_off: str) -> tuple[str, ...]:
    notes = []
    if broke_off:
        notes.append(f"not all of it could be unpacked: {broke_off[:200]}")
    if left_out:
        named = ", ".join(repr(name[:100]) for name in left_out[:_NAMED])
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        notes.append(f"left out as a link that leads out, a device or the like: {named}{more}")
    return tuple(notes)


def _regular_files(directory: Path) -> tuple[str, ...]:
    return tuple(
        sorted(
            os.path.relpath(path, directory)
            for parent, _, names in os.walk(directory)
            for path in (Path(parent, name) for name in names)
            if stat.S_ISREG(path.lstat().st_mode)  # a link may be of a kind that no question can follow
        )
    )
