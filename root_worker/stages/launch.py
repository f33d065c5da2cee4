"""Stage ``launch``: the VMM, under the VM's own uid, in a session and cgroup of its own, nobody's child.

All that it may touch is opened here and handed over as descriptors; of the host it sees nothing but what
all VMMs see.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from banger.contracts import qemu
from banger.contracts.errors import StageFailedError
from banger.contracts.keeper_plan import KeeperPlan, time_left
from banger.contracts.registry import Entry
from banger.contracts.requests import KillRequest, LaunchRequest, UndoRequest
from banger.contracts.vmm_limits import limits
from root_worker.host import RootHost
from root_worker.ops import serial_log, vm_drives
from root_worker.ops.accelerator import choose_accelerator
from root_worker.ops.spawn import spawn
from root_worker.ops.tap import open_tap
from root_worker.sink import admitted, fenced
from root_worker.vmm import cgroups, processes, qmp, units
from root_worker.vmm.jail import Jail, listen_qmp, locked, remove

ANSWER_DEADLINE_S = 20.0  # emulation on a host that boots dozens of guests at once


@admitted
def do(request: LaunchRequest, host: RootHost, entry: Entry) -> dict[str, Any]:
    """Start the VMM, once, and wait until it answers. StageFailedError with its last words when it dies."""
    with locked(host.paths, request.vm_id) as jail:
        if not (pid := _running(entry, host)):
            entry = _launch(request, host, jail)
            pid = _running(entry, host)
    return {"pid": pid, "accelerator": entry.accelerator, "limits": list(entry.limits)}


@fenced
def undo(request: UndoRequest, host: RootHost, entry: Entry) -> None:
    """Kill the VMM, prove it dead, and remove its jail. StageFailedError when it cannot be proven dead."""
    with locked(host.paths, request.vm_id) as jail:
        processes.end(host.uid(entry), request.signal if isinstance(request, KillRequest) else "KILL")
        units.remove(request.vm_id)
        cgroups.remove(host.paths, request.vm_id)
        host.registry.update(request.vm_id, launched=None, vcpus=0, memory_mib=0, accelerator=None, limits=())
        remove(jail)


def _running(entry: Entry, host: RootHost) -> int | None:
    """Return the pid of this start's VMM, also where the worker died before it could say that it runs."""
    uid = host.uid(entry)
    with processes.held(uid) as alive:
        vmms = [process.pid for process in alive if process.is_vmm]
    if not vmms:
        if alive:
            processes.end(uid, "KILL")  # a keeper whose VMM has just ended
        return None
    if entry.launched == entry.generation:
        return vmms[0]
    raise StageFailedError(
        f"VM {entry.vm_id} still runs from an earlier start",
        details=f"process {', '.join(map(str, vmms))}",
        resolution="Kill it, then start it again.",
    )


def _launch(request: LaunchRequest, host: RootHost, jail: Jail) -> Entry:
    uid = host.policy.slot(request.slot).uid
    with serial_log.opened(host, request.vm_id, uid) as log:
        said_before = os.fstat(log.newer).st_size
        entry = _start(request, host, jail, log)
        try:
            alive = qmp.answers(jail.socket, ANSWER_DEADLINE_S)
        except TimeoutError as error:
            raise StageFailedError(
                f"The VMM did not answer within {ANSWER_DEADLINE_S:g} s", details=log.tail(said_before)
            ) from error
        if not alive:
            processes.end(uid, "KILL")  # the keeper has written the VMM's last words then
            raise StageFailedError("The VMM ended at once", details=log.tail(said_before))
    return entry


def _start(request: LaunchRequest, host: RootHost, jail: Jail, log: serial_log.SerialLog) -> Entry:
    slot = host.policy.slot(request.slot)
    lives_s, chosen = time_left(request, time.time()), choose_accelerator(host)
    with ExitStack() as stack:
        tap_fd = open_tap(request.vm_id)
        stack.callback(os.close, tap_fd)
        wanted = limits(request.vcpus, request.memory_mib)
        doors = stack.enter_context(
            units.limited(jail, request.vm_id, wanted)
            if host.units
            else cgroups.limited(host.paths, request.vm_id, wanted)
        )
        drives = stack.enter_context(vm_drives.opened(host, request.vm_id, slot.uid))
        qmp_fd = stack.enter_context(listen_qmp(jail)).fileno()
        machine = qemu.machine(request, slot.mac, chosen.accelerator, _cpuinfo(), drives, tap_fd, qmp_fd)
        # Before it runs: this worker may be killed at any moment, and the next one is to know whose it is.
        entry = host.registry.update(
            request.vm_id,
            (host.policy.max_host_vcpus, host.policy.max_host_memory_mib),
            launched=request.generation,
            vcpus=request.vcpus,
            memory_mib=request.memory_mib,
            accelerator=chosen.accelerator,
            limits=doors.limits,
        )
        plan = KeeperPlan(
            argv=qemu.argv(machine),
            vmm_fds=machine.fds,
            cgroup_fds=doors.fds,
            lock_fd=jail.lock_fd,
            log_fd=log.newer,
            old_log_fd=log.older,
            log_bytes=host.policy.serial_log_mib * 1024 * 1024,
            lives_s=lives_s,
        )
        spawn(host.paths, request.vm_id, slot.uid, chosen.groups, plan)
    return entry


def _cpuinfo() -> str:
    with Path("/proc/cpuinfo").open() as file:
        return file.read(8192)  # the first processor is enough; on a large host the rest costs milliseconds
