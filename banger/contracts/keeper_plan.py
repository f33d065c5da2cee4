"""What a VMM's keeper is told: all of it descriptors that root has opened, and one command line."""

from __future__ import annotations

from typing import NamedTuple


class KeeperPlan(NamedTuple):
    """The VMM's argv and descriptors; the cgroups to enter; root's lock to give back; the bounded log.

    ``log_bytes`` is the limit of both halves of the log together.
    """

    argv: tuple[str, ...]
    vmm_fds: tuple[int, ...]
    cgroup_fds: tuple[int, ...]
    lock_fd: int
    log_fd: int
    old_log_fd: int
    log_bytes: int

    @property
    def fds(self) -> tuple[int, ...]:
        """All that the keeper inherits beside its standard streams."""
        return (*self.vmm_fds, *self.cgroup_fds, self.lock_fd, self.log_fd, self.old_log_fd)
