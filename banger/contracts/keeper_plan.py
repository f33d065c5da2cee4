"""What a VMM's keeper is told: all of it descriptors that root has opened, and one command line."""

from __future__ import annotations

from typing import NamedTuple

from banger.contracts.errors import StageFailedError
from banger.contracts.requests import LaunchRequest


class KeeperPlan(NamedTuple):
    """The VMM's argv and descriptors; the cgroups to enter; root's lock to give back; the bounded log.

    ``log_bytes`` is the limit of both halves of the log together; ``lives_s`` how long the VMM may run.
    """

    argv: tuple[str, ...]
    vmm_fds: tuple[int, ...]
    cgroup_fds: tuple[int, ...]
    lock_fd: int
    log_fd: int
    old_log_fd: int
    log_bytes: int
    lives_s: float | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """All that the keeper inherits beside its standard streams."""
        return (*self.vmm_fds, *self.cgroup_fds, self.lock_fd, self.log_fd, self.old_log_fd)


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
