"""What a VMM may take of its host at most, beside its disks: from its VM's size alone."""

from __future__ import annotations

from typing import Literal

Controller = Literal["memory", "pids", "cpu"]

# The file of a cgroup that takes the limit, in version 1 and in version 2.
LIMIT_FILES: dict[Controller, tuple[str, str]] = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max", "pids.max"),
    "cpu": ("cpu.cfs_quota_us", "cpu.max"),
}

# Beside the limit of memory, none of which is swapped out. No guest's memory is lent twice (placement), so a
# host needs no swap for it. With swap, what a VMM takes beyond its limit goes there, and all wait for it.
SWAP_FILES = ("memory.memsw.limit_in_bytes", "memory.swap.max")  # memory and swap together; swap alone

MIB = 1024 * 1024
CPU_PERIOD_US = 100_000  # the kernel's default, in both versions of cgroups

# Beside the guest's own memory: QEMU and its keeper, translated code under emulation (TCG_BUFFER_MIB), what
# the kernel keeps for them, and page tables. The page cache counts too, and is given back when needed.
OVERHEAD_MIB = 256
PAGE_TABLES_PART = 256
TCG_BUFFER_MIB = 128

# Threads: QEMU's main loop, its RCU thread, up to 64 for disk input and output, and the keeper; doubled.
THREADS = 160


def limits(vcpus: int, memory_mib: int) -> dict[Controller, int]:
    """Return the limits by cgroup controller: bytes, threads, and µs of processor time per CPU_PERIOD_US."""
    return {
        "memory": (memory_mib + memory_mib // PAGE_TABLES_PART + OVERHEAD_MIB) * MIB,
        "pids": vcpus + THREADS,
        "cpu": vcpus * CPU_PERIOD_US,
    }
