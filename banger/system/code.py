"""May services run this code? It must be root's alone to change, and everybody's to read.

Root runs it: whoever can write to a file of it, or to a directory above it, is root. And the unprivileged
services read it where it lies; under systemd nothing covers up a closed home for them.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from banger.contracts.errors import BangerError

HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SHOWN = 5


def require_trusted(paths: Iterable[Path] | None = None) -> None:
    """Raise BangerError, saying where to install to, unless root's services may run this very code."""
    complaints = list(complaints_about(code_paths() if paths is None else paths))
    if complaints:
        more = f"\nand {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
        raise BangerError(
            "services must not run banger from where it is installed",
            details="\n".join(complaints[:_SHOWN]) + more,
            resolution="Install it as root: python3 -m venv /opt/banger; /opt/banger/bin/pip install "
            "banger-*.whl; /opt/banger/bin/banger system install. See docs/install.md.",
        )


def code_paths() -> tuple[Path, ...]:
    """Return all that running the services loads: the interpreter, its libraries, and our packages."""
    packages = [importlib.util.find_spec(name) for name in ("banger", "workers", "root_worker")]
    found = [
        Path(sys.executable),
        Path(sys.executable).resolve(),
        *(Path(entry) for entry in sys.path if entry and Path(entry) != Path.cwd()),
        *(Path(spec.origin).parent for spec in packages if spec and spec.origin),
    ]
    return tuple(dict.fromkeys(path for path in found if path.exists()))


def complaints_about(paths: Iterable[Path]) -> Iterator[str]:
    """Yield what is wrong with paths, what they contain, and all directories above them; once each."""
    seen: set[Path] = set()
    for path in paths:
        for parent in reversed(path.resolve().parents):
            if parent not in seen:
                seen.add(parent)
                yield from _complaint(parent)
        for hidden in HIDDEN:
            if path.resolve().is_relative_to(hidden):
                yield f"{path}: services see no {hidden}"
        yield from _whole(path.resolve(), seen)


def _whole(path: Path, seen: set[Path]) -> Iterator[str]:
    if path in seen:
        return
    seen.add(path)
    yield from _complaint(path)
    if path.is_dir() and not path.is_symlink():
        with os.scandir(path) as entries:
            for entry in entries:
                yield from _whole(Path(entry.path), seen)


def _complaint(path: Path) -> Iterator[str]:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return  # where it leads is looked at where it counts: among the paths themselves
    readable = 0o5 if stat.S_ISDIR(found.st_mode) else 0o4
    if found.st_uid != 0:
        yield f"{path}: belongs to user {found.st_uid}, not to root"
    elif found.st_mode & _OTHERS_WRITE and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
        yield f"{path}: others than root can write to it"
    elif found.st_mode & readable != readable:
        yield f"{path}: the services' users cannot read it"
