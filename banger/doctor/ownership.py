"""Whose farm is this, and has its owner what it takes? In a home, root looks at names and modes alone."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from banger.contracts.names import HostPaths
from banger.doctor.facts import OwnerFacts
from banger.embedded.account import user_name
from banger.keyring import own_ssh_directory


def ask_owner(paths: HostPaths) -> OwnerFacts:
    """Return the farm's owner, who asks, and what is amiss: where the owner or root asks."""
    asking = user_name(os.geteuid())
    try:
        key, name = paths.owner_key.read_text().strip().rsplit(" ", 1)
    except (FileNotFoundError, ValueError):
        return OwnerFacts("", asking)
    if asking not in ("root", name):
        return OwnerFacts(name, asking)
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return OwnerFacts(name, asking, (f"there is no user {name}",))
    home = Path.home() if asking == name else Path(account.pw_dir)
    directory = own_ssh_directory(home)
    private = (directory.parent / "farm.json", directory / "id_ed25519")
    problems = [said for path in private if (said := _amiss(path, account.pw_uid))]
    public = directory / "id_ed25519.pub"
    if asking == name and public.exists() and not public.read_text().startswith(key):
        problems.append(f"{public} is not the key that guests admit")
    if not _is_owned(paths.spool, account.pw_uid):
        problems.append(f"{paths.spool} is not {name}'s")
    return OwnerFacts(name, asking, tuple(problems))


def _amiss(path: Path, uid: int) -> str | None:
    try:
        found = path.lstat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not stat.S_ISREG(found.st_mode) or found.st_uid != uid:
        return f"{path} is not a file of its owner's"
    if found.st_mode & 0o077:
        return f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, and others may open it"
    return None


def _is_owned(path: Path, uid: int) -> bool:
    return path.is_dir() and path.stat().st_uid == uid
