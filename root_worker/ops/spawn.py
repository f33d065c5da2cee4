"""Start a VMM that is not the worker's child: through the shim, which stays with it."""

from __future__ import annotations

import logging
import marshal
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from banger.contracts.names import link_alias
from root_worker import shell
from root_worker.ops.serial_log import SerialLog
from root_worker.vmm import shim
from root_worker.vmm.jail import Launched

_DEADLINE_S = 10

_log = logging.getLogger("root_worker.spawn")


def spawn(
    vm_id: str,
    generation: int,
    argv: Sequence[str],
    *,
    uid: int,
    groups: Collection[int],
    fds: Sequence[int],
    log: SerialLog,
    log_bytes: int,
    pid_fd: int,
) -> Launched:
    """Start ``argv`` as ``uid`` with the descriptors ``fds`` and return its processes.

    Its output goes to the log (``log_bytes`` in both halves together); ``pid_fd`` holds the same answer
    before the program runs. It has no capabilities, no groups but ``groups``, and cannot gain privileges.
    """
    whole = [*demoted(uid, groups), *argv]
    plan = {
        "generation": generation,
        "argv": whole,
        "uid": uid,
        "vmm_fds": list(fds),
        "log_fd": log.newer,
        "old_log_fd": log.older,
        "log_bytes": log_bytes,
        "pid_fd": pid_fd,
    }
    # The door's own line shows the shim; this one can be pasted where the descriptors are given.
    _log.info("starting %s", shlex.join(whole))
    answer = shell.run(
        (str(Path(sys.executable).resolve()), "-I", "-S", shim.__file__, link_alias(vm_id)),
        stdin=marshal.dumps(plan),
        pass_fds=(*fds, log.newer, log.older, pid_fd),
        deadline_s=_DEADLINE_S,
    )
    return Launched.model_validate_json(answer.stdout)


def demoted(uid: int, groups: Collection[int]) -> tuple[str, ...]:
    """Return the words that start a program as ``uid``, with these groups, without a way back."""
    return (
        shell.tool("setpriv"),
        f"--reuid={uid}",
        f"--regid={uid}",
        f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--",
    )
