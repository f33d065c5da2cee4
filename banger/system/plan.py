"""What an installation consists of: plain values, in the order in which they are made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class User(NamedTuple):
    """A system user with a group of the same name, no home and no shell."""

    name: str
    purpose: str


class Directory(NamedTuple):
    """A directory. Whoever it belongs to has the group of the same name too."""

    path: Path
    owner: str
    mode: int


class File(NamedTuple):
    """A file with all that is in it.

    ``kept``: one that is there stays as it is (the administrator's own). ``grows``: others write to it by
    right (a key is rotated in it), so only its owner and mode are looked at later. ``secret``: never shown.
    """

    path: Path
    owner: str
    group: str
    mode: int
    text: str
    kept: bool = False
    grows: bool = False
    secret: bool = False

    @property
    def sha256(self) -> str:
        """The digest of what is in it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class InstallPlan(NamedTuple):
    """All of an installation; ``services`` are the units of what runs, in starting order."""

    users: tuple[User, ...]
    directories: tuple[Directory, ...]
    files: tuple[File, ...]
    services: tuple[str, ...]


def described(plan: InstallPlan) -> Iterator[tuple[str, str, str]]:
    """Yield a row (kind, name, how) for each thing of the plan."""
    for user in plan.users:
        yield "user", user.name, user.purpose
    for directory in plan.directories:
        yield "directory", str(directory.path), f"{directory.owner} {directory.mode:04o}"
    for file in plan.files:
        kept = ", kept if it is there" if file.kept else ""
        yield "file", str(file.path), f"{file.owner}:{file.group} {file.mode:04o}{kept}"
    for service in plan.services:
        yield "service", service, "enabled with banger.target, and started"
