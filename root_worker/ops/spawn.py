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

_DEADLINE_S = 10

_log = logging.getLogger("root_worker.spawn")


def spawn(paths: HostPaths, vm_id: str, uid: int, groups: Collection[int], plan: KeeperPlan) -> None:
    """Start the plan's VMM, which sees the VMMs' root directory as ``/``.

    Neither it nor its keeper has a capability, a group but ``groups``, a network, or a way to gain any: all
    is gone before the keeper runs.
    """
    # The door's own line shows the keeper; this one can be pasted where the descriptors are given.
    _log.info("starting %s", shlex.join(plan.argv))
    shell.run(
        (
            *(shell.tool("unshare"), "--net", "--ipc", "--uts", f"--root={paths.vmm_root}", "--"),
            *unprivileged(uid, shell.tool, groups),
            *(str(Path(sys.executable).resolve()), "-I", "-S", str(KEEPER), link_alias(vm_id)),
        ),
        stdin=marshal.dumps(plan._asdict()),
        pass_fds=plan.fds,
        deadline_s=_DEADLINE_S,
    )
