"""The farm's owner: the one user, beside root, whose banger works on this host without sudo.

What the owner needs is written into the owner's home by a program that *is* the owner: root follows no name
in a directory that somebody else may change. Root keeps the owner's public key, which new guests admit.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
from pathlib import Path

from banger.contracts.errors import BangerError, InvalidInputError, ToolFailedError
from banger.embedded.account import drop_to, worker_account
from banger.embedded.credentials import Credentials
from banger.embedded.layout import make_directory
from banger.embedded.paths import farm_paths
from banger.embedded.view import code_paths, covered_argv, may_enter, plan_covers
from banger.private_file import write_private
from banger.settings import Settings
from banger.shell import run

_DEADLINE_S = 60
_PUBLIC_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]{20,200}")


def owner_of(settings: Settings) -> pwd.struct_passwd | None:
    """Return the configured owner, else the user behind sudo; None where that is root.

    InvalidInputError where it is no user of this machine, or one that runs what the owner is kept apart from.
    """
    name = settings.owner or os.environ.get("SUDO_USER") or "root"
    resolution = "Set owner to a user's name, or to root for a farm that root alone uses."
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise InvalidInputError(
            f"the farm's owner {name} is no user of this machine", resolution=resolution
        ) from None
    if account.pw_uid == 0:
        return None
    guests = range(settings.uid_base, settings.uid_base + settings.network.num_addresses)
    if account.pw_uid in guests or name == settings.worker_user:
        raise InvalidInputError(
            f"{name} cannot own the farm: the worker or a VM runs as that user", resolution=resolution
        )
    return account


def hand_over(settings: Settings, credentials: Credentials) -> None:
    """Give the owner addresses, a key and a spool; where there is none, admit no earlier one's key any more.

    BangerError saying why when the owner's home does not take them. May be repeated.
    """
    owner, host = owner_of(settings), settings.paths
    worker = worker_account(settings)
    make_directory(host.spool, owner.pw_uid if owner else 0, worker.pw_gid, 0o2770)
    if owner is None:
        host.owner_key.unlink(missing_ok=True)
        return
    key = _equip(owner, settings, credentials)
    write_private(host.owner_key, f"{key} {owner.pw_name}\n", mode=0o644)


def owners_view(credentials: Credentials) -> str:
    """Return the farm's file as its owner may have it: no role's password but the ``cli``'s, and Flower's."""
    named = {"redis_url", "flower_url", "flower_user", "flower_password"}
    shown = credentials.model_dump(mode="json", include=named)
    return json.dumps(shown | {"redis_passwords": {"cli": credentials.redis_passwords["cli"]}}, indent=2)


def _equip(owner: pwd.struct_passwd, settings: Settings, credentials: Credentials) -> str:
    """Have the owner's files written by the owner; return the public key."""

    def enterable(path: Path) -> bool:
        found = path.stat()
        return may_enter(found.st_mode, found.st_uid, found.st_gid, owner.pw_uid, owner.pw_gid)

    argv = drop_to(owner, (sys.executable, "-m", "banger.embedded.owner_home"))
    covers = plan_covers(code_paths(), (), enterable)
    if covers:  # `farm up` has made it already, systemd has no use for it
        farm_paths(settings).staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        said = run(
            covered_argv(argv, covers, farm_paths(settings).staging),
            stdin=owners_view(credentials).encode(),
            env={"HOME": owner.pw_dir},
            deadline_s=_DEADLINE_S,
        ).stdout.decode(errors="replace")
    except ToolFailedError as error:
        raise BangerError(
            f"the files of the farm's owner {owner.pw_name} cannot be written into {owner.pw_dir}",
            details=error.details,
            resolution="Mend it, or set owner to root for a farm that root alone uses.",
        ) from error
    if not _PUBLIC_KEY.fullmatch(said.strip()):  # it comes from a user: it may be anything
        raise BangerError(
            f"the owner {owner.pw_name} has no ed25519 key in {owner.pw_dir}/.config/banger/ssh"
        )
    return said.strip()
