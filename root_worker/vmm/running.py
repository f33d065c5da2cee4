"""Find a VM's processes and prove that they are its own.

Three witnesses: root's registry, the jail's pid file, and the process table. A pid alone proves nothing:
the start time, the uid and the argument ``banger-ID`` must agree, or the process is left alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from banger.contracts.names import FIRST_SLOT, link_alias
from root_worker.host import RootHost
from root_worker.ops.process import alive, identify
from root_worker.registry import Process
from root_worker.vmm import jail

_PROC = Path("/proc")


class Running(NamedTuple):
    """A VM's live processes. More than one VMM would be a defect, and is found all the same."""

    vmms: tuple[Process, ...]
    shims: tuple[Process, ...]


def find(host: RootHost, vm_id: str) -> Running:
    """Return what lives of the VM."""
    witnesses = [
        witness
        for witness in (host.registry.get(vm_id), jail.read_pids(host.paths.jail(vm_id)))
        if witness is not None
    ]
    vmms = tuple(_ours((witness.vmm for witness in witnesses), vm_id, host))
    shims = tuple(_ours((witness.shim for witness in witnesses), vm_id, host))
    return Running(vmms or tuple(_scan(vm_id, host)), shims)


def is_ours(process: Process, vm_id: str, host: RootHost) -> bool:
    """Tell whether this very process lives and is the VM's: by its start, its uid and its arguments."""
    if not alive(process):
        return False
    uid, arguments = _uid_and_arguments(process.pid)
    # A shim is root's until it drops, and so is the child that becomes the VMM.
    return (uid == 0 or uid in _uids(host, vm_id)) and link_alias(vm_id) in arguments


def _ours(processes: Iterable[Process | None], vm_id: str, host: RootHost) -> Iterator[Process]:
    for process in dict.fromkeys(processes):
        if process is not None and is_ours(process, vm_id, host):
            yield process


def _scan(vm_id: str, host: RootHost) -> Iterator[Process]:
    """Look for a VMM that no file knows. Only a VM's own uid convinces here: arguments are free to choose."""
    uids = _uids(host, vm_id)
    for pid in _pids_of(uids):
        uid, arguments = _uid_and_arguments(pid)
        if uid in uids and ("-name", link_alias(vm_id)) in itertools.pairwise(arguments):
            try:
                yield identify(pid)
            except ProcessLookupError:
                continue  # it ended while we looked


def _pids_of(uids: range) -> Iterator[int]:
    """Narrow the process table down by the owner of /proc/PID, a tenth of the cost of reading it."""
    with os.scandir(_PROC) as directories:
        for directory in directories:
            if directory.name.isdigit():
                with contextlib.suppress(FileNotFoundError):
                    if directory.stat().st_uid in uids:
                        yield int(directory.name)


def _uids(host: RootHost, vm_id: str) -> range:
    """Return the uids that the VM can have: its slot's, or all slots' where root does not know it."""
    entry = host.registry.get(vm_id)
    base = host.policy.uid_base
    if entry is not None and entry.slot is not None:
        return range(base + entry.slot, base + entry.slot + 1)
    return range(base + FIRST_SLOT, base + host.policy.network.num_addresses)


def _uid_and_arguments(pid: int) -> tuple[int, list[str]]:
    """Return a process's uid and its arguments; (-1, []) when it is gone.

    Not by the owner of /proc/PID: the kernel says root while a process may not be dumped, as the shim.
    """
    try:
        status = (_PROC / str(pid) / "status").read_text(errors="replace")
        arguments = (_PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return -1, []
    return int(status.partition("\nUid:")[2].split(maxsplit=1)[0]), arguments
