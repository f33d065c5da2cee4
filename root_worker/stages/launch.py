"""Stage ``launch``: the VMM, under the VM's own uid, in a session of its own, no child of the worker.

All that it may touch is opened here and handed over as descriptors. Its processes are on file, in the jail
and in root's registry, before the stage answers.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from banger.contracts import qemu
from banger.contracts.errors import NotFoundError, StageFailedError
from banger.contracts.requests import KillRequest, LaunchRequest, UndoRequest
from root_worker import policy
from root_worker.host import RootHost
from root_worker.ops import serial_log, vm_drives
from root_worker.ops.accelerator import choose_accelerator
from root_worker.ops.spawn import spawn
from root_worker.ops.tap import open_tap
from root_worker.vmm import jail, kill, qmp, running

ANSWER_DEADLINE_S = 20.0  # emulation on a host that boots dozens of guests at once


def do(request: LaunchRequest, host: RootHost) -> dict[str, Any]:
    """Start the VMM, once, and wait until it answers. StageFailedError with its last words when it dies."""
    policy.check(request, host.policy)
    host.registry.admit(request.vm_id, request.generation, request.slot)
    with jail.locked(host.paths, request.vm_id) as home:
        launched = _already_launched(request, host, home) or _launch(request, host, home)
        entry = host.registry.update(request.vm_id, vmm=launched.vmm, shim=launched.shim)
    return {"pid": launched.vmm.pid, "accelerator": entry.accelerator}


def undo(request: UndoRequest, host: RootHost) -> None:
    """Kill the VMM, prove it dead, and remove its jail. StageFailedError when it cannot be proven dead."""
    policy.check(request, host.policy)
    host.registry.admit(request.vm_id, request.generation)
    with jail.locked(host.paths, request.vm_id) as home:
        kill.kill(host, request.vm_id, request.signal if isinstance(request, KillRequest) else "KILL")
        host.registry.update(request.vm_id, vmm=None, shim=None, accelerator=None)
        jail.remove(home)


def _already_launched(request: LaunchRequest, host: RootHost, home: Path) -> jail.Launched | None:
    """Return this start's VMM when it lives, also where the worker died before it could record it."""
    alive = running.find(host, request.vm_id)
    if not alive.vmms:
        for shim in alive.shims:
            kill.end_shim(shim)  # its VMM has just ended
        return None
    launched = jail.read_pids(home)
    if launched and launched.generation == request.generation and launched.vmm in alive.vmms:
        return launched
    raise StageFailedError(
        f"VM {request.vm_id} still runs from an earlier start",
        details=f"process {', '.join(str(process.pid) for process in alive.vmms)}",
        resolution="Kill it, then start it again.",
    )


def _launch(request: LaunchRequest, host: RootHost, home: Path) -> jail.Launched:
    uid = host.policy.slot(request.slot).uid
    with serial_log.opened(host, request.vm_id, uid) as log:
        said_before = os.fstat(log.newer).st_size
        launched = _spawn(request, host, home, log)
        try:
            alive = qmp.answers(home / jail.SOCKET, ANSWER_DEADLINE_S)
        except TimeoutError as error:
            raise StageFailedError(
                f"The VMM did not answer within {ANSWER_DEADLINE_S:g} s", details=log.tail(said_before)
            ) from error
        if not alive:
            kill.end_shim(launched.shim)  # it has written the VMM's last words then
            raise StageFailedError("The VMM ended at once", details=log.tail(said_before))
    return launched


def _spawn(request: LaunchRequest, host: RootHost, home: Path, log: serial_log.SerialLog) -> jail.Launched:
    slot = host.policy.slot(request.slot)
    accelerator, groups = choose_accelerator(host)
    host.registry.update(request.vm_id, accelerator=accelerator)
    with ExitStack() as stack:
        tap_fd = open_tap(request.vm_id)
        stack.callback(os.close, tap_fd)
        pid_fd = jail.open_pids(home)
        stack.callback(os.close, pid_fd)
        machine = qemu.Machine(
            vm_id=request.vm_id,
            accelerator=accelerator,
            tsc_khz=qemu.tsc_khz(_cpuinfo()),
            vcpus=request.vcpus,
            memory_mib=request.memory_mib,
            kernel=_stored(host.paths.kernel(request.kernel) / "vmlinux"),
            initrd=_stored(host.paths.kernel(request.kernel) / "initrd.img"),
            mac=slot.mac,
            drives=stack.enter_context(vm_drives.opened(host, request.vm_id, slot.uid)),
            tap_fd=tap_fd,
            qmp_fd=stack.enter_context(jail.listen_qmp(home, slot.uid)).fileno(),
        )
        launched = spawn(
            request.vm_id,
            request.generation,
            qemu.argv(machine),
            uid=slot.uid,
            groups=groups,
            fds=machine.fds,
            log=log,
            log_bytes=host.policy.serial_log_mib * 1024 * 1024,
            pid_fd=pid_fd,
        )
    # Before it answers: from now on its disks are not idle, and this worker may be killed at any moment.
    host.registry.update(request.vm_id, vmm=launched.vmm, shim=launched.shim)
    return launched


def _stored(path: Path) -> Path:
    if not path.is_file():
        raise NotFoundError(
            f"There is no {path} on this host", resolution="Build the image again: `banger image build`."
        )
    return path


def _cpuinfo() -> str:
    with Path("/proc/cpuinfo").open() as file:
        return file.read(8192)  # the first processor is enough; on a large host the rest costs milliseconds
