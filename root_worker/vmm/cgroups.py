"""A cgroup for each VM, in whichever version has the controllers; without one there is no such limit."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from banger.contracts.names import HostPaths
from banger.contracts.vmm_limits import LIMIT_FILES, SWAP_FILES, Controller

REMOVAL_DEADLINE_S = 2.0

_MOUNTS = Path("/proc/self/mounts")

log = logging.getLogger("root_worker.cgroups")


class Doors(NamedTuple):
    """The limits that apply, and descriptors of the cgroups that have them, to enter by.

    Who writes ``0`` into each enters, or another whose pid it writes, whatever its uid: the kernel asks who
    opened it.
    """

    limits: tuple[str, ...]
    fds: tuple[int, ...]


@contextlib.contextmanager
def limited(paths: HostPaths, vm_id: str, limits: Mapping[Controller, int]) -> Iterator[Doors]:
    """Make the VM's cgroups, set what limits this host has controllers for, and yield the doors."""
    remove(paths, vm_id)
    with contextlib.ExitStack() as stack:
        applies: list[str] = []
        fds: dict[Path, int] = {}
        for controller, limit in limits.items():
            try:
                group, version = group_of(paths, controller, vm_id)
                group.mkdir(parents=True, exist_ok=True)
                if version == 2:
                    for parent in (group.parents[1], group.parent):
                        (parent / "cgroup.subtree_control").write_text(f"+{controller}")
                (group / LIMIT_FILES[controller][version - 1]).write_text(str(limit))
                swap = group / SWAP_FILES[version - 1]
                if controller == "memory" and swap.exists():  # some kernels do not count it
                    swap.write_text((str(limit), "0")[version - 1])
                if group not in fds:
                    fds[group] = os.open(group / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
                    stack.callback(os.close, fds[group])
                applies.append(controller)
            except OSError as error:  # absent, read-only, or not ours to hand on
                log.warning("VM %s runs without a limit of %s: %s", vm_id, controller, error)
        yield Doors(tuple(applies), tuple(fds.values()))


def remove(paths: HostPaths, vm_id: str) -> None:
    """Remove the VM's cgroups, which nothing lives in any more; forgives exactly their absence."""
    deadline = time.monotonic() + REMOVAL_DEADLINE_S
    for controller in LIMIT_FILES:
        with contextlib.suppress(FileNotFoundError):
            group, _ = group_of(paths, controller, vm_id)
            while group.exists():  # where nothing may be written, it is not "there" that a removal is told
                try:
                    group.rmdir()
                except OSError:  # EBUSY: the kernel has not taken out the dead yet
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)


def group_of(paths: HostPaths, controller: Controller, vm_id: str) -> tuple[Path, int]:
    """Return where the VM's cgroup of this controller is, and its version; FileNotFoundError without one."""
    for line in _MOUNTS.read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup" and controller in options.split(","):
            return Path(place, paths.cgroups, vm_id), 1
        if kind == "cgroup2" and controller in Path(place, "cgroup.controllers").read_text().split():
            return Path(place, paths.cgroups, vm_id), 2
    raise FileNotFoundError("this host has no such controller")
