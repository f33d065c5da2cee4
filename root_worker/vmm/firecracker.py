"""Firecracker's driver: its jailer makes its jail, and its keeper, as the VM's uid, tells it what to run.

Root says what shall be in the jail and what shall be asked, and reads nothing that a VMM answers.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from banger.contracts import firecracker, vmm
from banger.contracts.errors import ToolFailedError
from banger.contracts.keeper_plan import JailPlan, KeeperPlan
from banger.contracts.names import tap_name
from banger.contracts.policy import Policy
from root_worker import shell
from root_worker.ops import dm_snapshot, serial_log
from root_worker.ops.tap import require_tap
from root_worker.vmm.jail import Jail
from root_worker.vmm.launching import Launching

_VERSION_DEADLINE_S = 10.0
_LISTEN_DEADLINE_S = 25.0


def problem(policy: Policy) -> str:
    """Return what is wrong with this host's Firecracker and jailer, empty where they can be used.

    Asked at every start: they may have been replaced meanwhile, by others than an administrator too.
    """
    pair = (policy.firecracker, policy.jailer)
    try:
        said = [shell.run((str(one), "--version"), deadline_s=_VERSION_DEADLINE_S).stdout for one in pair]
    except ToolFailedError as error:
        return error.brief
    return vmm.pair_problem(pair[0].resolve().name, *map(vmm.version, said))


def planned(start: Launching, plan: KeeperPlan, stack: ExitStack) -> KeeperPlan:
    """Return the plan with a jailed Firecracker; what it is shown stays open until the stack is closed.

    StageFailedError when there is no tap, PolicyError when it is a stranger's.
    """
    request, host, slot = start.request, start.host, start.slot
    require_tap(request.vm_id)  # it opens the tap by its name, which none but the VM's uid may
    files = _shown(start, stack)
    base = start.jail.path / "root"
    base.mkdir(mode=0o700, exist_ok=True)
    program = host.policy.firecracker.resolve()
    root = firecracker.jail_root(base, program.name, request.vm_id)
    largest = max(os.fstat(fd).st_size for fd, _, _ in files)
    jail = JailPlan(
        argv=firecracker.jailer_argv(host.policy.jailer, program, request.vm_id, slot.uid, base, largest),
        base=str(base),
        root=str(root),
        uid=slot.uid,
        shown=files,
        pid_file=f"{root}/{program.name}.pid",
        deadline_s=_LISTEN_DEADLINE_S,
    )
    counted = serial_log.written_by(host, host.paths.metrics(request.vm_id), slot.uid)
    asked = firecracker.sequence(request, tap_name(request.vm_id), slot.mac, slot.cid, len(start.drives))
    last = firecracker.ctrl_alt_del()
    return plan._replace(
        vmm_fds=tuple(fd for fd, _, _ in files),
        jail=jail,
        requests=tuple((one.method, one.path, one.body) for one in asked),
        last_request=(last.method, last.path, last.body),
        metrics_log_fd=stack.enter_context(counted),
    )


def answers(_jail: Jail, _deadline_s: float) -> bool:
    """Tell that Firecracker answers: its keeper has had an answer to each request by now."""
    return True


def _shown(start: Launching, stack: ExitStack) -> tuple[tuple[int, str, str], ...]:
    """Return what Firecracker is shown: a descriptor, the path to find it by again, its name in the jail."""
    paths, vm_id = start.host.paths, start.request.vm_id
    kernel = paths.kernel(start.request.kernel)
    system = dm_snapshot.path(vm_id) if start.drives[0].block else paths.overlay(vm_id)
    boot = [stack.enter_context((kernel / name).open("rb")).fileno() for name in ("vmlinux", "initrd.img")]
    fds = (*boot, *(drive.fd for drive in start.drives))
    where = (kernel / "vmlinux", kernel / "initrd.img", system, paths.work_disk(vm_id))
    names = firecracker.names_in_jail(len(start.drives))
    return tuple((fd, str(Path(path)), name) for fd, path, name in zip(fds, where, names, strict=False))
