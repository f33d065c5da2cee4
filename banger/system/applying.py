"""Carry a plan out, one thing at a time: each looks first, changes what differs, and says what it did."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from banger.contracts.errors import BangerError
from banger.embedded.layout import make_directory
from banger.private_file import write_private
from banger.shell import find_tool, run
from banger.system.manifest import MadeDirectory, MadeFile, MadeUser
from banger.system.plan import Directory, File, User

_DEADLINE_S = 30
_USER_IN_USE = 8  # userdel(8)


class Done(NamedTuple):
    """What was done to what: ``made``, ``changed``, ``removed``, ``kept``, or ``unchanged``."""

    kind: str
    name: str
    what: str


class Applied(NamedTuple):
    """What was done, and what the manifest is to remember of it."""

    done: Done
    entry: MadeUser | MadeDirectory | MadeFile


def make_user(user: User) -> Applied:
    """Add a system user that can do nothing but own things, unless it is there."""
    there = user.name in {entry.pw_name for entry in pwd.getpwall()}
    if not there:
        words = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        run((find_tool("useradd"), *words, "--shell", "/usr/sbin/nologin", user.name), deadline_s=_DEADLINE_S)
    done = Done("user", user.name, "unchanged" if there else "made")
    return Applied(done, MadeUser(name=user.name, made=not there))


def make(directory: Directory) -> Applied:
    """Make a directory, or mend its owner and mode."""
    account = pwd.getpwnam(directory.owner)
    before = _status(directory.path)
    right = before is not None and (before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode)) == (
        *(account.pw_uid, account.pw_gid),
        directory.mode,
    )
    if not right:
        make_directory(directory.path, account.pw_uid, account.pw_gid, directory.mode, contents=True)
    what = "made" if before is None else "unchanged" if right else "changed"
    entry = MadeDirectory(
        path=directory.path, owner=directory.owner, mode=directory.mode, made=before is None
    )
    return Applied(Done("directory", str(directory.path), what), entry)


def write(file: File) -> Applied:
    """Write a file unless it is as it should be; of one that is kept, only owner and mode are mended."""
    before = _status(file.path)
    if before is not None and not stat.S_ISREG(before.st_mode):
        raise BangerError(f"{file.path} is no regular file", resolution="Move it away, then install again.")
    kept = file.kept and before is not None
    content = file.path.read_bytes() if before is not None else None
    wanted = content if kept and content is not None else file.text.encode()
    uid, gid = pwd.getpwnam(file.owner).pw_uid, grp.getgrnam(file.group).gr_gid
    right = before is not None and (before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode)) == (
        *(uid, gid),
        file.mode,
    )
    if content != wanted or not right:
        write_private(file.path, wanted, uid=uid, gid=gid, mode=file.mode)
    what = "made" if before is None else "unchanged" if content == wanted and right else "changed"
    entry = MadeFile(
        path=file.path,
        owner=file.owner,
        group=file.group,
        mode=file.mode,
        sha256=None if file.grows or file.kept else file.sha256,
        made=before is None,
        kept=file.kept,
    )
    return Applied(Done("file", str(file.path), "kept" if kept and what == "unchanged" else what), entry)


def remove_file(path: Path) -> Done:
    """Remove a file; that it is gone already is no error."""
    path.unlink(missing_ok=True)
    return Done("file", str(path), "removed")


def remove_directories(directories: Iterable[MadeDirectory], whole: Iterable[Path]) -> Iterator[Done]:
    """Remove what was made here, innermost first: in ``whole`` with all in it, elsewhere if empty."""
    roots = tuple(whole)
    for entry in reversed(tuple(directories)):
        if not entry.made or not entry.path.is_dir():
            continue
        if any(entry.path.is_relative_to(root) for root in roots):
            shutil.rmtree(entry.path)
        elif any(entry.path.iterdir()):
            yield Done("directory", str(entry.path), "kept: there is something in it that is not ours")
            continue
        else:
            entry.path.rmdir()
        yield Done("directory", str(entry.path), "removed")


def remove_user(user: MadeUser) -> Done:
    """Remove a user, and the group that came with it, unless a process is that user's."""
    if user.name in {entry.pw_name for entry in pwd.getpwall()}:
        ended = run((find_tool("userdel"), user.name), deadline_s=_DEADLINE_S, good=(0, _USER_IN_USE))
        if ended.code == _USER_IN_USE:
            return Done("user", user.name, "kept: something still runs as this user")
    return Done("user", user.name, "removed")


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
