"""The unprivileged services' account, and how a program is started as it."""

from __future__ import annotations

import pwd

from banger.contracts.errors import BangerError
from banger.settings import Settings
from banger.shell import find_tool

NOBODY = 65534  # the kernel's own: who owns what no namespace knows
_DROP = ("--init-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")


def worker_account(settings: Settings) -> pwd.struct_passwd:
    """Return the account of the unprivileged worker; BangerError saying how to make it when it is missing."""
    try:
        return pwd.getpwnam(settings.worker_user)
    except KeyError:
        raise BangerError(
            f"the system user {settings.worker_user} does not exist",
            details="The unprivileged worker, Redis and Flower run as this user.",
            resolution=f"Run `make setup`, or: useradd --system --user-group {settings.worker_user}",
        ) from None


def user_name(uid: int) -> str:
    """Return a user's name, or the number where the machine knows no such user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def as_user(user: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the argv that runs another one as this user, without capabilities or a way to gain any.

    The kernel ends it (SIGTERM) when its parent dies, so that a killed supervisor leaves nobody behind.
    """
    drop = ("--reuid", user, "--regid", user, *_DROP)
    return (find_tool("setpriv"), "--pdeathsig", "TERM", *(drop if user != "root" else ()), "--", *argv)


def as_nobody(capability: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the argv that runs another one as nobody, with this capability alone: like ``as_user``."""
    nobody = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    only = ("--inh-caps", f"-all,+{capability}", "--ambient-caps", f"-all,+{capability}")
    bound = ("--bounding-set", f"-all,+{capability}", "--no-new-privs")
    return (find_tool("setpriv"), "--pdeathsig", "TERM", *nobody, *only, *bound, "--", *argv)


def drop_to(account: pwd.struct_passwd, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the argv that runs another one as a person: like ``as_user``, whatever the person's group."""
    ids = ("--reuid", str(account.pw_uid), "--regid", str(account.pw_gid))
    return (find_tool("setpriv"), "--pdeathsig", "TERM", *ids, *_DROP, "--", *argv)
