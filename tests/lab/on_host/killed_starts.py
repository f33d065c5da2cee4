"""Kill root at each step of putting a process into a VM's unit; then undo. Run in the lab's host, by itself.

``unshare --mount --propagation slave python killed_starts.py`` prints one line of JSON: what was left by the
kill and what by the undo, for each step. It has a state directory and uids of its own, and for each step a
VM: none is there for long enough that a worker would have it swept.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from banger.contracts.keeper_plan import KeeperPlan
from banger.contracts.names import FIRST_SLOT, SLICE, unit_name
from banger.contracts.policy import Policy
from banger.contracts.requests import UndoRequest
from banger.contracts.vmm_limits import limits
from banger.embedded import vmm_root
from root_worker import shell
from root_worker.host import RootHost, root_host
from root_worker.ops.spawn import spawn
from root_worker.stages import launch
from root_worker.vmm import processes, units
from root_worker.vmm.jail import locked

STILL = 12  # looks, a tenth of a second apart, and each takes longer than that


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(real: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **words: Any) -> None:
        real(*arguments, **words)
        die()

    return run


def before_systemd_is_asked() -> None:
    units.run = die


def once_systemd_is_asked() -> None:
    units.run = then_die(units.run)


def once_the_unit_has_come() -> None:
    units._accepted = then_die(units._accepted)


def while_the_keeper_starts() -> None:
    shell._wait = die


STEPS = (before_systemd_is_asked, once_systemd_is_asked, once_the_unit_has_come, while_the_keeper_starts)
AFTER = ("once the keeper is in the unit", "once root has let go")


def start(host: RootHost, vm_id: str, slot: int, log: Path, at: str) -> None:
    """Start a program as launch does, in the VM's unit, and die where it is said."""
    uid = host.policy.slot(slot).uid
    fds = [os.open(log.with_suffix(end), os.O_RDWR | os.O_CREAT | os.O_APPEND) for end in (".log", ".log.1")]
    with locked(host.paths, vm_id) as jail, units.limited(jail, vm_id, limits(1, 64)) as doors:
        plan = KeeperPlan(("/usr/bin/sleep", "600"), (), doors.fds, jail.lock_fd, fds[0], fds[1], 1 << 20)
        spawn(host.paths, vm_id, uid, (), plan)
        if at == AFTER[0]:
            die()
    die()


def left(host: RootHost, vm_id: str, slot: int) -> list[str]:
    """Return what there is of the VM, once nothing more comes or goes."""
    seen: list[list[str]] = []
    while len(seen) < STILL or len({tuple(one) for one in seen[-STILL:]}) > 1:
        with processes.held(host.policy.slot(slot).uid) as alive:
            seen.append(["vmm" if one.is_vmm else "keeper" for one in alive])
        seen[-1] += ["unit"] if (units.TRANSIENT / unit_name(vm_id)).exists() else []
        seen[-1] += ["cgroup"] if (units.CGROUPS / SLICE / unit_name(vm_id)).exists() else []
        seen[-1] += ["jail"] if host.paths.jail(vm_id).exists() else []
        time.sleep(0.1)
    return sorted(seen[-1])


def main() -> None:
    state = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="killed-starts-"))
    state.chmod(0o711)
    policy = Policy(
        host="here", state_dir=state, run_dir=state / "run", uid_base=460_000, worker_user="nobody"
    )
    host = root_host(policy, units=True)
    host.paths.kernels.mkdir(parents=True)
    vmm_root.make(host.paths.vmm_root, host.paths.kernels)
    told = {}
    steps: list[tuple[str, Callable[[], None]]] = [(one.__name__.replace("_", " "), one) for one in STEPS]
    steps += ((name, lambda: None) for name in AFTER)
    for slot, (name, prepare) in enumerate(steps, FIRST_SLOT):
        vm_id = f"0badc0ffee{slot:02x}"
        host.registry.admit(vm_id, 1, slot)
        child = os.fork()
        if child == 0:
            try:
                prepare()
                start(host, vm_id, slot, state / "serial", name)
            finally:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(1)
        how = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        after_kill = left(host, vm_id, slot)
        launch.undo(UndoRequest(vm_id=vm_id, generation=1), host)
        told[name] = {"ended": how, "after the kill": after_kill, "after the undo": left(host, vm_id, slot)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
