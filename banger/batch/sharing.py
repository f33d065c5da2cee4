"""Who is next, and what batches may take of a host. Pure.

Batches share fairly: the one with the fewest jobs at work is next. All of them together leave a part of each
host to those who ask for a single VM, and no host gets more jobs than its worker can look after at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from banger.batch.state import BatchInfo, JobState
from banger.contracts.spec import VmSpec
from banger.hosts import VCPUS_A_CORE, HostInfo
from banger.placement import Used

_KEPT_FREE = 0.1  # of memory and vCPUs
_KEPT_SLOTS = 2
_JOBS_A_CORE = 2  # guests that boot want a processor each; a plan's max_parallel says otherwise


@dataclass
class Line:
    """The jobs of a batch that wait, and how many of it are at work already."""

    info: BatchInfo
    going: int
    parallel: int
    waiting: int

    def took(self) -> None:
        """Count one that was begun."""
        self.going += 1
        self.waiting -= 1


def next_line(lines: Sequence[Line]) -> Line | None:
    """Return the line whose first job is next, None where none may begin."""
    open_ones = [line for line in lines if line.waiting > 0 and line.going < line.parallel]
    return min(open_ones, key=lambda line: (line.going, line.info.created_at, line.info.id), default=None)


def parallel_of(info: BatchInfo, hosts: Sequence[HostInfo]) -> int:
    """Return how many jobs of a batch may be at work at once, by its plan or by what processors there are."""
    cores = sum(host.vcpus // VCPUS_A_CORE for host in hosts if host.alive)
    return info.parallel or max(1, cores * _JOBS_A_CORE)


@dataclass
class Room:
    """What hosts have, and what of it is taken."""

    hosts: Sequence[HostInfo]
    used: dict[str, Used]
    jobs: Counter[str] = field(default_factory=Counter)

    def count(self, going: Iterable[JobState]) -> None:
        """Count the jobs of batches that hosts are at."""
        self.jobs.update(state.host for state in going if state.host)

    def took(self, spec: VmSpec, host: str) -> None:
        """Count a job that a host was given."""
        used = self.used.get(host, Used())
        self.jobs[host] += 1
        self.used[host] = Used(
            used.slots + 1, used.memory_mib + spec.memory_mib, used.vcpus + spec.vcpus, used.commands
        )

    def used_by_batches(self) -> dict[str, Used]:
        """Return what a batch is to take for taken: with what is kept free for single VMs."""
        return {host.name: self._with_share(host) for host in self.hosts}

    def _with_share(self, host: HostInfo) -> Used:
        used = self.used.get(host.name, Used())
        return Used(
            used.slots + _KEPT_SLOTS,
            used.memory_mib + int(host.memory_mib * _KEPT_FREE),
            used.vcpus + int(host.vcpus * _KEPT_FREE),
            self.jobs[host.name],
        )
