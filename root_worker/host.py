"""What a privileged stage is given beside its request: this host's policy, registry and worker."""

from __future__ import annotations

import pwd
from typing import NamedTuple

from banger.contracts.names import HostPaths
from banger.contracts.policy import Policy
from banger.contracts.registry import Entry
from root_worker.registry import Registry


class RootHost(NamedTuple):
    """This host, as root sees it. ``worker_uid`` and ``worker_gid`` are the unprivileged worker's.

    ``units`` says whether VMs live in units of systemd's here, or in cgroups that root makes.
    """

    policy: Policy
    registry: Registry
    worker_uid: int
    worker_gid: int
    units: bool = False

    @property
    def paths(self) -> HostPaths:
        """Where this host keeps things."""
        return self.policy.paths

    def uid(self, entry: Entry) -> int | None:
        """Return the uid of a VM's processes; None while it has no slot, and so no process."""
        return self.policy.slot(entry.slot).uid if entry.slot is not None else None


def root_host(policy: Policy, *, units: bool = False) -> RootHost:
    """Return the host of a policy, its registry opened. KeyError where there is no worker's user."""
    worker = pwd.getpwnam(policy.worker_user)
    return RootHost(policy, Registry(policy.paths.registry), worker.pw_uid, worker.pw_gid, units)
