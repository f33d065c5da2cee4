"""Where must a part of the file system be covered, so that the worker's user can read the code?

A clone often lies in somebody's home, which others may not enter. Loosening that home is not ours to do.
So the unprivileged services get a mount namespace of their own in which the topmost closed directory is
covered by an empty tmpfs that holds the code and the interpreter alone, read-only: what systemd calls
``ProtectHome=tmpfs`` with ``BindReadOnlyPaths=``. Pure decisions here; ``private_view`` carries them out.
"""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from banger.shell import find_tool


class Cover(NamedTuple):
    """A directory to cover, and what stays visible in it, at the same paths."""

    directory: Path
    read_only: tuple[Path, ...]
    writable: tuple[Path, ...]


def code_paths() -> tuple[Path, ...]:
    """Return the directories that running our code takes: both packages, the environment, the interpreter."""
    source = Path(__file__).resolve().parents[2]
    return tuple(
        dict.fromkeys(
            (
                source / "banger",
                source / "workers",
                Path(sys.prefix).resolve(),
                Path(sys.base_prefix).resolve(),
            )
        )
    )


def may_enter(mode: int, owner: int, group: int, uid: int, gid: int) -> bool:
    """Tell whether uid with this one group may pass through a directory of this mode and owners."""
    if uid == owner:
        return bool(mode & stat.S_IXUSR)
    if gid == group:
        return bool(mode & stat.S_IXGRP)
    return bool(mode & stat.S_IXOTH)


def plan_covers(
    read_only: Iterable[Path], writable: Iterable[Path], enterable: Callable[[Path], bool]
) -> tuple[Cover, ...]:
    """Return what has to be covered: nothing where every path can be reached already."""
    shown: dict[Path, tuple[list[Path], list[Path]]] = {}
    for kind, paths in enumerate((read_only, writable)):
        for path in paths:
            closed = next((parent for parent in reversed(path.parents) if not enterable(parent)), None)
            if closed is not None:
                shown.setdefault(closed, ([], []))[kind].append(path)
    return tuple(
        Cover(directory, _outermost(kept[0]), _outermost(kept[1]))
        for directory, kept in sorted(shown.items())
    )


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    unique = sorted(set(paths))
    return tuple(path for path in unique if not any(other in path.parents for other in unique))


def covered_argv(argv: tuple[str, ...], covers: tuple[Cover, ...], staging: Path) -> tuple[str, ...]:
    """Return the argv that runs another one behind these covers; the argv itself where there are none.

    Propagation is one-way (slave): what is mounted on the host later is seen inside, nothing of ours outside.
    """
    if not covers:
        return argv
    wire = json.dumps(
        [[str(c.directory), [str(p) for p in c.read_only], [str(p) for p in c.writable]] for c in covers]
    )
    unshare = (find_tool("unshare"), "--mount", "--propagation", "slave", "--")
    return (*unshare, sys.executable, "-m", "banger.embedded.private_view", str(staging), wire, *argv)
