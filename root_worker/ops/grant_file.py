"""Hand a file that the worker made to its VM: what the VM's uid owns, the worker no longer does."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NamedTuple

from banger.contracts.errors import StageFailedError
from root_worker.host import RootHost
from root_worker.ops import beneath
from root_worker.policy import Policy


class Worker(NamedTuple):
    """The unprivileged worker's uid and gid."""

    uid: int
    gid: int


def worker_of(policy: Policy) -> Worker:
    """Return the ids of the worker's user; StageFailedError when the system has no such user."""
    try:
        user = pwd.getpwnam(policy.worker_user)
    except KeyError as error:
        raise StageFailedError(
            f"There is no user {policy.worker_user!r}",
            resolution="Run `banger doctor`: it says how to make it.",
        ) from error
    return Worker(user.pw_uid, user.pw_gid)


def grant(host: RootHost, path: Path, uid: int) -> None:
    """Give the file ``path`` beneath the state directory to ``uid``; the worker's group may still write.

    It must be the worker's or that uid's already; PolicyError otherwise, StageFailedError when not there.
    """
    worker = worker_of(host.policy)
    with beneath.regular_file(host.paths.state, path, owners={worker.uid, uid}) as fd:
        give(fd, uid, worker.gid, 0o660)


def give(fd: int, uid: int, gid: int, mode: int) -> None:
    """Give an opened file to ``uid`` and ``gid``."""
    os.fchown(fd, uid, gid)
    os.fchmod(fd, mode)
