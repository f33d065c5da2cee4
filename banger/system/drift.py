"""What has become of an installation: each thing that is no longer as it was made. Pure, but for looking."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from banger import __version__
from banger.embedded.account import user_name
from banger.system import places
from banger.system.manifest import MadeDirectory, MadeFile, Manifest
from banger.system.systemd import UnitState


class Found(NamedTuple):
    """A file or directory as it is. ``sha256`` is None for what is none, or may not be read."""

    kind: str
    owner: str
    group: str
    mode: int
    sha256: str | None


class Drift(NamedTuple):
    """A thing, and what is wrong with it."""

    what: str
    how: str


def look(manifest: Manifest) -> dict[Path, Found | None]:
    """Return what is there now of all that the manifest names; what this user may not see is left out."""
    seen: dict[Path, Found | None] = {}
    for path in (entry.path for entry in manifest.places):
        with contextlib.suppress(PermissionError):
            seen[path] = look_at(path)
    return seen


def look_at(path: Path) -> Found | None:
    """Return what is at a path now, None where nothing is."""
    try:
        return _found(path)
    except FileNotFoundError:
        return None


def missing_users(manifest: Manifest) -> tuple[str, ...]:
    """Return the users that the services need and the machine does not have."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return tuple(user.name for user in manifest.users if user.name not in known)


def drifts(
    manifest: Manifest,
    seen: Mapping[Path, Found | None],
    units: Sequence[UnitState],
    gone_users: Sequence[str],
) -> tuple[Drift, ...]:
    """Return all that differs; nothing where the installation is as it was made."""
    return (
        *(Drift(f"user {name}", "does not exist") for name in gone_users),
        *(Drift(str(path), how) for path, how in _of_paths(manifest, seen)),
        *_of_units(units),
        *_of_version(manifest),
    )


def _of_paths(manifest: Manifest, seen: Mapping[Path, Found | None]) -> Iterator[tuple[Path, str]]:
    for entry in manifest.places:
        if entry.path not in seen:
            continue
        found = seen[entry.path]
        if found is None:
            yield entry.path, "is gone"
        else:
            yield from ((entry.path, how) for how in _differences(entry, found))


def _differences(entry: MadeDirectory | MadeFile, found: Found) -> Iterator[str]:
    kind = "directory" if isinstance(entry, MadeDirectory) else "file"
    if found.kind != kind:
        yield f"is a {found.kind}, not a {kind}"
        return
    if found.owner != entry.owner:
        yield f"belongs to {found.owner}, not to {entry.owner}"
    if isinstance(entry, MadeFile) and found.group != entry.group:
        yield f"has the group {found.group}, not {entry.group}"
    if found.mode != entry.mode:
        yield f"has mode {found.mode:04o}, not {entry.mode:04o}"
    known = entry.sha256 if isinstance(entry, MadeFile) else None
    if known and found.sha256 and found.sha256 != known:
        yield "was changed"


def _of_units(units: Iterable[UnitState]) -> Iterator[Drift]:
    for unit in units:
        if unit.load != "loaded":
            yield Drift(unit.name, f"is {unit.load} in systemd")
        elif not unit.running:
            yield Drift(unit.name, f"does not run: {unit.active} ({unit.sub})")
        if unit.stale:
            yield Drift(unit.name, "was changed since systemd read it")


def _of_version(manifest: Manifest) -> Iterator[Drift]:
    if manifest.version != __version__:
        yield Drift("version", f"{manifest.version} was installed, this is {__version__}")


def loosened(units: Iterable[UnitState]) -> tuple[Drift, ...]:
    """Return the units that an administrator has changed by right: what they may do is no more as we say."""
    return tuple(
        Drift(unit.name, f"is changed by {', '.join(unit.drop_ins)}")
        for unit in units
        if unit.drop_ins and unit.name != places.TARGET
    )


def _found(path: Path) -> Found:
    status = path.lstat()
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "symbolic link"))
    kind = next((name for test, name in kinds if test(status.st_mode)), "special file")
    sha256 = None
    if kind == "file":
        try:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        except PermissionError:
            sha256 = None
    owner, group = user_name(status.st_uid), _group_name(status.st_gid)
    return Found(kind, owner, group, stat.S_IMODE(status.st_mode), sha256)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
