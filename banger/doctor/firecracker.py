"""Firecracker and its jailer on this host, as root will judge them at a launch."""

from __future__ import annotations

import stat
from pathlib import Path

from banger.contracts import vmm
from banger.contracts.errors import ToolFailedError
from banger.doctor.facts import PairFacts
from banger.settings import Settings
from banger.shell import run

_DEADLINE_S = 10.0
_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def pair(settings: Settings) -> PairFacts:
    """Return what there is. A program that others may write is not run: it may be anybody's."""
    programs = (settings.firecracker, settings.jailer)
    places, there = " and ".join(map(str, programs)), any(program.exists() for program in programs)
    if problem := next(filter(None, map(_untrusted, programs)), ""):
        return PairFacts(places, there, problem=problem)
    try:
        said = [run((str(one), "--version"), deadline_s=_DEADLINE_S).stdout.decode() for one in programs]
    except (ToolFailedError, UnicodeDecodeError) as error:
        return PairFacts(places, there, problem=f"cannot be asked for its version: {error}")
    versions = [vmm.version(text) for text in said]
    if problem := vmm.pair_problem(*versions):
        return PairFacts(places, there, problem=problem)
    return PairFacts(places, there, version=versions[0] or "")


def _untrusted(program: Path) -> str:
    """Return why root would not run a program: who else could put another in its place."""
    try:
        real = program.resolve(strict=True)
    except OSError:
        return f"there is no {program}"
    for place in (real, *real.parents, *program.parents):
        found = place.stat()
        if found.st_uid != 0 or found.st_mode & _FOR_OTHERS:
            return f"{place} is not what root alone can write"
    return ""
