"""Start a VMM through its keeper, which outlives the worker: as the VM's uid, in the VMMs' root directory."""

from __future__ import annotations

import logging
import marshal
import shlex
import sys
from collections.abc import Collection
from pathlib import Path

from banger.contracts.keeper_plan import KeeperPlan
from banger.contracts.names import KEEPER, HostPaths, link_alias
from banger.contracts.sandbox import unprivileged
from root_worker import shell
from root_worker.vmm import make_jail

_DEADLINE_S = 45  # Firecracker's keeper has told it all by then, and the kernel is in the guest's memory
_RUN_CODE = "import marshal, sys; exec(marshal.load(sys.stdin.buffer))"
# Of this worker's own version, whatever has been installed since: it is handed the plan of this one.
_MAKE_JAIL = marshal.dumps(compile(Path(make_jail.__file__).read_bytes(), make_jail.__file__, "exec"))

_log = logging.getLogger("root_worker.spawn")


def spawn(paths: HostPaths, vm_id: str, uid: int, groups: Collection[int], plan: KeeperPlan) -> None:
    """Start the plan's VMM, which sees the VMMs' root directory as ``/``.

    Neither it nor its keeper has a capability, a group but ``groups``, a network, or a way to gain any: all
    is gone before the keeper runs. A VMM with a jail of its own is there before that.
    """
    # The door's own line shows the keeper; this one can be pasted where the descriptors are given.
    _log.info("starting %s", shlex.join(plan.jail.argv if plan.jail else plan.argv))
    python = (str(Path(sys.executable).resolve()), "-I", "-S")
    shell.run(
        (
            *((*python, "-c", _RUN_CODE) if plan.jail else ()),
            *(shell.tool("unshare"), "--net", "--ipc", "--uts", f"--root={paths.vmm_root}", "--"),
            *unprivileged(uid, shell.tool, groups),
            *(*python, str(KEEPER), link_alias(vm_id)),
        ),
        stdin=(_MAKE_JAIL if plan.jail else b"") + marshal.dumps(plan.as_dict()),
        pass_fds=plan.fds,
        deadline_s=_DEADLINE_S,
    )
