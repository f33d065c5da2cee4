"""Start a VMM through its keeper, which outlives the worker: as the VM's uid, in the VMMs' root directory."""

from __future__ import annotations

import logging
import marshal
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from banger.contracts.names import KEEPER, HostPaths, link_alias
from banger.contracts.sandbox import unprivileged
from root_worker import shell
from root_worker.ops.serial_log import SerialLog

_DEADLINE_S = 10

_log = logging.getLogger("root_worker.spawn")


def spawn(
    paths: HostPaths,
    vm_id: str,
    argv: Sequence[str],
    *,
    uid: int,
    groups: Collection[int],
    vmm_fds: Collection[int],
    cgroup_fds: Collection[int],
    lock_fd: int,
    log: SerialLog,
    log_bytes: int,
) -> None:
    """Start ``argv``, which sees the VMMs' root directory as ``/``, with the descriptors ``vmm_fds``.

    Its output goes to the log (``log_bytes`` in both halves together). Neither it nor its keeper has a
    capability, a group but ``groups``, a network, or a way to gain any: all is gone before the keeper runs.
    """
    plan = {
        "argv": list(argv),
        "vmm_fds": list(vmm_fds),
        "cgroup_fds": list(cgroup_fds),
        "lock_fd": lock_fd,
        "log_fd": log.newer,
        "old_log_fd": log.older,
        "log_bytes": log_bytes,
    }
    # The door's own line shows the keeper; this one can be pasted where the descriptors are given.
    _log.info("starting %s", shlex.join(argv))
    shell.run(
        (
            *(shell.tool("unshare"), "--net", "--ipc", "--uts", f"--root={paths.vmm_root}", "--"),
            *unprivileged(uid, shell.tool, groups),
            *(str(Path(sys.executable).resolve()), "-I", "-S", str(KEEPER), link_alias(vm_id)),
        ),
        stdin=marshal.dumps(plan),
        pass_fds=(*vmm_fds, *cgroup_fds, lock_fd, log.newer, log.older),
        deadline_s=_DEADLINE_S,
    )
