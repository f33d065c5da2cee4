"""Stage ``launch``: the VMM, under the VM's own uid, in a session and cgroup of its own, nobody's child.

All that it may touch is opened here and handed over as descriptors; of the host it sees nothing but what
all VMMs see.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Any

from banger.contracts import vmm
from banger.contracts.accelerator import Accelerator
from banger.contracts.errors import StageFailedError, ToolFailedError
from banger.contracts.keeper_plan import KeeperPlan, time_left
from banger.contracts.registry import Entry
from banger.contracts.requests import KillRequest, LaunchRequest, UndoRequest
from banger.contracts.vmm import Vmm
from banger.contracts.vmm_limits import limits
from root_worker.host import RootHost
from root_worker.ops import serial_log, vm_drives
from root_worker.ops.accelerator import choose_accelerator
from root_worker.ops.spawn import spawn
from root_worker.sink import admitted, fenced
from root_worker.vmm import cgroups, firecracker, processes, qemu, units
from root_worker.vmm.jail import Jail, locked, remove
from root_worker.vmm.launching import Launching

ANSWER_DEADLINE_S = 20.0  # emulation on a host that boots dozens of guests at once

_NAMES: dict[Vmm, str] = {"qemu": "QEMU", "firecracker": "Firecracker"}
_DRIVERS = {"qemu": qemu, "firecracker": firecracker}


@admitted
def do(request: LaunchRequest, host: RootHost, entry: Entry) -> dict[str, Any]:
    """Start the VMM, once, and wait until it answers. StageFailedError with its last words when it dies."""
    with locked(host.paths, request.vm_id) as jail:
        if not (pid := _running(entry, host)):
            entry = _launch(request, host, jail)
            pid = _running(entry, host)
    told = {"vmm": entry.vmm, "accelerator": entry.accelerator, "limits": list(entry.limits)}
    return {"pid": pid, **told}


@fenced
def undo(request: UndoRequest, host: RootHost, entry: Entry) -> None:
    """Kill the VMM, prove it dead, and remove its jail. StageFailedError when it cannot be proven dead."""
    with locked(host.paths, request.vm_id) as jail:
        processes.end(host.uid(entry), request.signal if isinstance(request, KillRequest) else "KILL")
        units.remove(request.vm_id)
        cgroups.remove(host.paths, request.vm_id)
        nothing = {"vmm": None, "vcpus": 0, "memory_mib": 0, "accelerator": None, "limits": ()}
        host.registry.update(request.vm_id, launched=None, **nothing)
        remove(jail)


def _running(entry: Entry, host: RootHost) -> int | None:
    """Return the pid of this start's VMM, also where the worker died before it could say that it runs."""
    uid = host.uid(entry)
    with processes.held(uid) as alive:
        vmms = [process.pid for process in alive if process.is_vmm]
    # Nobody tells it what to run any more.
    begun = entry.vmm == "firecracker" and not any(process.is_keeper for process in alive)
    if not vmms or begun:
        if alive:
            processes.end(uid, "KILL")  # or a keeper whose VMM has just ended
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
            alive = _DRIVERS[entry.vmm or "qemu"].answers(jail, ANSWER_DEADLINE_S)
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
    kind = _choose_vmm(request, host, chosen.accelerator)
    with ExitStack() as stack:
        wanted = limits(request.vcpus, request.memory_mib)
        doors = stack.enter_context(
            units.limited(jail, request.vm_id, wanted)
            if host.units
            else cgroups.limited(host.paths, request.vm_id, wanted)
        )
        drives = stack.enter_context(vm_drives.opened(host, request.vm_id, slot.uid))
        plan = KeeperPlan(
            argv=(),
            vmm_fds=(),
            cgroup_fds=doors.fds,
            lock_fd=jail.lock_fd,
            log_fd=log.newer,
            old_log_fd=log.older,
            log_bytes=host.policy.serial_log_mib * 1024 * 1024,
            lives_s=lives_s,
        )
        launching = Launching(request, host, jail, slot, chosen.accelerator, drives)
        plan = _DRIVERS[kind].planned(launching, plan, stack)
        # Before it runs: this worker may be killed at any moment, and the next one is to know whose it is.
        entry = host.registry.update(
            request.vm_id,
            (host.policy.max_host_vcpus, host.policy.max_host_memory_mib),
            launched=request.generation,
            vmm=kind,
            vcpus=request.vcpus,
            memory_mib=request.memory_mib,
            accelerator=chosen.accelerator,
            limits=doors.limits,
        )
        try:
            spawn(host.paths, request.vm_id, slot.uid, chosen.groups, plan)
        except ToolFailedError as error:
            processes.end(slot.uid, "KILL")  # what it had begun
            said = error.details.partition("\n")[2]  # without its command line, which root's log has
            raise StageFailedError(f"{_NAMES[kind]} could not be started", details=said) from error
    return entry


def _choose_vmm(request: LaunchRequest, host: RootHost, accelerator: Accelerator) -> Vmm:
    """Return what runs the VM: what was asked for, else what this host's policy says, else what can."""
    wanted = host.policy.vmm if request.vmm == "auto" else request.vmm
    obstacle = ""
    if wanted != "qemu":
        problem = firecracker.problem(host.policy) if accelerator == "kvm" else ""
        obstacle = vmm.obstacle(accelerator, request.vcpus, problem)
    return vmm.choose(wanted, obstacle, limits_network=request.net_rate_mib_s is not None)
