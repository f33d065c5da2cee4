"""End a VM's processes and prove them dead, whoever started them."""

from __future__ import annotations

from banger.contracts.errors import StageFailedError
from banger.contracts.requests import Signal
from root_worker.host import RootHost
from root_worker.ops.signal_process import signal_and_wait
from root_worker.registry import Process
from root_worker.vmm import running

SIGNAL_DEADLINE_S = 5.0
DEATH_DEADLINE_S = 5.0
SHIM_DEADLINE_S = 2.0


def kill(host: RootHost, vm_id: str, signal: Signal) -> None:
    """Send the signal, then SIGKILL where 5 s did not do; StageFailedError unless all are dead then."""
    alive = running.find(host, vm_id)
    for vmm in alive.vmms:
        if signal == "KILL" or not signal_and_wait(vmm, signal, SIGNAL_DEADLINE_S):
            _make_sure(vmm)
    for shim in alive.shims:
        end_shim(shim)


def end_shim(shim: Process) -> None:
    """Wait for the shim of a dead VMM: it ends by itself, when it has written how the VMM did."""
    if not signal_and_wait(shim, None, SHIM_DEADLINE_S):
        _make_sure(shim)


def _make_sure(process: Process) -> None:
    if not signal_and_wait(process, "KILL", DEATH_DEADLINE_S):
        raise StageFailedError(
            f"Process {process.pid} is alive {DEATH_DEADLINE_S:g} s after SIGKILL",
            resolution="It hangs in the kernel, most likely in input or output: see to that, then try again.",
        )
