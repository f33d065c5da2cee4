"""Firecracker and its jailer on this host, as root will judge them at a launch."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from banger.contracts import vmm
from banger.contracts.errors import ToolFailedError
from banger.shell import run

_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Pair(NamedTuple):
    """The two programs: where they are to be, what they are, and what is wrong with that.

    ``version`` is empty where they cannot be used, and ``problem`` where they can; ``there`` says whether
    either of them is installed at all.
    """

    places: str
    there: bool
    version: str = ""
    problem: str = ""


def look(firecracker: Path, jailer: Path, deadline_s: float = 10.0) -> Pair:
    """Return what there is. A program that others may write is not run: it may be anybody's.

    Each may take ``deadline_s`` to say its version, and is asked once for as long as it stays as it is.
    """
    programs = (firecracker, jailer)
    places, there = " and ".join(map(str, programs)), any(map(os.path.exists, programs))
    if problem := next(filter(None, map(_untrusted, programs)), ""):
        return Pair(places, there, problem=problem)
    try:
        versions = [_version(program, _identity(program), deadline_s) for program in programs]
    except ToolFailedError as error:
        return Pair(places, there, problem=f"it cannot be asked for its version: {error.brief}")
    if problem := vmm.pair_problem(firecracker.resolve().name, *versions):
        return Pair(places, there, problem=problem)
    return Pair(places, there, version=versions[0] or "")


@lru_cache(maxsize=4)
def _version(program: Path, _identity: tuple[int, ...], deadline_s: float) -> str | None:
    return vmm.version(run((str(program), "--version"), deadline_s=deadline_s).stdout)


def _identity(program: Path) -> tuple[int, ...]:
    found = program.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def _untrusted(program: Path) -> str:
    """Return why root would not run a program: who else could put another in its place."""
    try:
        os.path.realpath(program, strict=True)
    except PermissionError as error:
        return f"{program} cannot be looked at: {error.strerror}"
    except OSError:
        return f"there is no {program}"
    for place in _led_through(program):
        found = place.stat()
        if found.st_uid != 0 or found.st_mode & _FOR_OTHERS:
            return f"{place} is not what root alone can write"
    return ""


def _led_through(path: Path) -> Iterator[Path]:
    """Yield the directories that lead to a file, those of each symlink among them, and the file."""
    for place in (*reversed(path.parents), path):
        yield from _led_through(place.parent / place.readlink()) if place.is_symlink() else (place,)
