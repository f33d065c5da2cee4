"""QEMU's driver: all that it may touch comes as descriptors, its QMP socket too, by which it answers."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from banger.contracts import qemu
from banger.contracts.keeper_plan import KeeperPlan
from root_worker.ops.tap import open_tap
from root_worker.vmm import qmp
from root_worker.vmm.jail import Jail, listen_qmp
from root_worker.vmm.launching import Launching


def planned(start: Launching, plan: KeeperPlan, stack: ExitStack) -> KeeperPlan:
    """Return the plan with QEMU in it; what it inherits stays open until the stack is closed."""
    tap_fd = open_tap(start.request.vm_id)
    stack.callback(os.close, tap_fd)
    qmp_fd = stack.enter_context(listen_qmp(start.jail)).fileno()
    machine = qemu.machine(
        start.request, start.slot.mac, start.accelerator, _cpuinfo(), start.drives, tap_fd, qmp_fd
    )
    return plan._replace(argv=qemu.argv(machine), vmm_fds=machine.fds)


def answers(jail: Jail, deadline_s: float) -> bool:
    """Wait until QEMU answers; False as soon as it is gone. TimeoutError when neither comes in time."""
    return qmp.answers(jail.socket, deadline_s)


def _cpuinfo() -> str:
    with Path("/proc/cpuinfo").open() as file:
        return file.read(8192)  # the first processor is enough; on a large host the rest costs milliseconds
