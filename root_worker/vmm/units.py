"""A VM's transient unit: systemd makes its cgroup with its limits, and ends what is left in it.

systemd starts nothing of the VM's. Its unit comes to a socket in the VM's jail, root puts the VMM into the
unit's cgroup, as into one of its own, and lets go. Where root dies before, the unit ends by itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from banger.contracts import vm_unit
from banger.contracts.errors import StageFailedError, ToolFailedError
from banger.contracts.names import unit_name
from banger.contracts.vmm_limits import Controller
from root_worker.shell import run, tool
from root_worker.vmm.cgroups import Doors
from root_worker.vmm.jail import Jail, listen

BOOTED = Path("/run/systemd/system")  # sd_booted(3): there where systemd is the system's manager
TRANSIENT = Path("/run/systemd/transient")  # systemd.unit(5); a file there is a unit that is loaded
CGROUPS = Path("/sys/fs/cgroup")  # where systemd wants the one hierarchy of version 2

_TOOL_DEADLINE_S = 20.0
_DEADLINE_S = 15.0
_GRACE_S = 1.0  # systemd lets go of a unit by itself, once the last process in it has ended
_NOT_LOADED = 5  # systemctl(1)
_PEER = struct.Struct("3i")


def usable() -> bool:
    """Tell whether VMs can have units here: systemd runs, and all controllers are in one hierarchy."""
    return BOOTED.is_dir() and (CGROUPS / "cgroup.controllers").exists()


@contextlib.contextmanager
def limited(jail: Jail, vm_id: str, limits: Mapping[Controller, int]) -> Iterator[Doors]:
    """Make the VM's unit, of which nothing may live, and yield its doors; it ends with what has entered.

    StageFailedError where systemd cannot be asked, refuses, or does not make it in time.
    """
    remove(vm_id)
    with contextlib.ExitStack() as stack:
        with listen(jail.path_of("unit.sock")) as listener:
            # By our descriptor: the path of a socket is short, and it leads nowhere once we have died.
            path = f"/proc/{os.getpid()}/fd/{jail.lock_fd}/unit.sock"
            try:
                run(vm_unit.start_argv(tool, vm_id, limits, path), deadline_s=_TOOL_DEADLINE_S)
            except ToolFailedError as error:
                raise _failed(vm_id, str(error)) from error
            holder = stack.enter_context(_accepted(listener, vm_id))
        group = _group_of(holder, vm_id)
        fd = os.open(group / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        has = (group / "cgroup.controllers").read_text().split()
        yield Doors(tuple(name for name in (*limits, "io") if name in has), (fd,))


def remove(vm_id: str) -> None:
    """Have systemd forget the VM's unit, and end what lives in it; forgives exactly its absence.

    StageFailedError where it is still there afterwards.
    """
    if _gone(vm_id, _GRACE_S):
        return
    name = unit_name(vm_id)
    run((tool("systemctl"), "stop", name), deadline_s=_TOOL_DEADLINE_S, good=(0, _NOT_LOADED))
    run((tool("systemctl"), "reset-failed", name), deadline_s=_TOOL_DEADLINE_S, good=range(256))
    if not _gone(vm_id, _DEADLINE_S):
        raise StageFailedError(
            f"systemd does not let go of {name}",
            resolution=f"`systemctl status {name}` says what it waits for.",
        )


def _gone(vm_id: str, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while (TRANSIENT / unit_name(vm_id)).exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _accepted(listener: socket.socket, vm_id: str) -> socket.socket:
    """Return the connection of the unit's first process; it lives until we close ours."""
    deadline = time.monotonic() + _DEADLINE_S
    listener.settimeout(0.1)
    while True:
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
        if time.monotonic() > deadline or not (TRANSIENT / unit_name(vm_id)).exists():
            raise _failed(vm_id, "the unit has failed, or was not started in time")


def _group_of(holder: socket.socket, vm_id: str) -> Path:
    """Return the cgroup of who has come, which the kernel tells; StageFailedError unless it is the unit's."""
    pid, _, _ = _PEER.unpack(holder.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    said = Path(f"/proc/{pid}/cgroup").read_text()
    group = next((line[3:] for line in said.splitlines() if line.startswith("0::")), "")
    if Path(group).name != unit_name(vm_id):
        raise _failed(vm_id, f"process {pid} has come instead, of {said!r}")
    return CGROUPS / group.lstrip("/")


def _failed(vm_id: str, details: str) -> StageFailedError:
    return StageFailedError(
        f"systemd does not make {unit_name(vm_id)}, which VM {vm_id} would run in",
        details=details,
        resolution=f"`journalctl -u {unit_name(vm_id)}` says why.",
    )
