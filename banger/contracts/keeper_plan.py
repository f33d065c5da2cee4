"""What a VMM's keeper is told: all of it descriptors that root has opened, and one command line."""

from __future__ import annotations

from typing import Any, NamedTuple

from banger.contracts.errors import StageFailedError
from banger.contracts.requests import LaunchRequest


class JailPlan(NamedTuple):
    """A jail for Firecracker, and its jailer's argv.

    ``base`` is an empty directory, on which a file system of the VM's own is mounted that nobody else sees;
    ``root`` is what becomes Firecracker's root directory in it. ``shown`` are the files that it sees there:
    an opened one, the path by which it is found again, and its name.
    """

    argv: tuple[str, ...]
    base: str
    root: str
    uid: int
    shown: tuple[tuple[int, str, str], ...]
    pid_file: str
    deadline_s: float


class KeeperPlan(NamedTuple):
    """The VMM's argv and descriptors; the cgroups to enter; root's lock to give back; the bounded log.

    ``log_bytes`` is the limit of both halves of the log together; ``lives_s`` how long the VMM may run.

    A VMM in a jail of its own is started by root before, as ``jail`` says: it is told ``requests`` then
    (method, path, body), and ``last_request`` when it is to end.
    """

    argv: tuple[str, ...]
    vmm_fds: tuple[int, ...]
    cgroup_fds: tuple[int, ...]
    lock_fd: int
    log_fd: int
    old_log_fd: int
    log_bytes: int
    lives_s: float | None = None
    jail: JailPlan | None = None
    requests: tuple[tuple[str, str, bytes], ...] = ()
    last_request: tuple[str, str, bytes] | None = None
    metrics_log_fd: int | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """All that the keeper inherits beside its standard streams."""
        more = () if self.metrics_log_fd is None else (self.metrics_log_fd,)
        return (*self.vmm_fds, *self.cgroup_fds, self.lock_fd, self.log_fd, self.old_log_fd, *more)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan in plain values, which marshal can write."""
        return self._asdict() | {"jail": self.jail._asdict() if self.jail else None}


def time_left(request: LaunchRequest, now: float) -> float | None:
    """Return what is left of the VM's time to live at ``now``, in seconds, None where it has no end.

    StageFailedError where nothing is left: the keeper would end the VMM at once.
    """
    if request.expires_at is None:
        return None
    if (left := request.expires_at - now) <= 0:
        raise StageFailedError(
            f"VM {request.vm_id} is not started: its time to live is over",
            details=f"for {-left:.0f} s, by this host's clock",
            resolution="Nothing has to be done: the farm deletes it. Create another one.",
        )
    return left
