"""A VM's processes: all that run as its uid, and nobody else's.

A slot's uid is one VM's alone, and what runs as it cannot leave it. So no pid is ever stored, none can be
recycled, and nothing that a process says of itself is believed. Signals go through a pidfd whose uid was
read when it was open already: never to another process that got the pid.

What makes its jail is root's yet, and has the uid for a group, which the jailer hands on to what it forks.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from banger.contracts.errors import StageFailedError
from banger.contracts.policy import Policy
from banger.contracts.registry import Entry
from banger.contracts.requests import Signal
from root_worker.host import RootHost

SIGNAL_DEADLINE_S = 5.0
DEATH_DEADLINE_S = 5.0
LAST_WORDS_S = 1.0
_LOOKS = 20


class Process(NamedTuple):
    """A live process, held: the VMM, its keeper, or (neither) what makes its jail, as the kernel tells.

    A VMM leads a session, or is the first of a PID namespace; its keeper is neither.
    """

    pid: int
    pidfd: int
    is_vmm: bool
    is_keeper: bool


@contextlib.contextmanager
def held(uid: int | None) -> Iterator[list[Process]]:
    """Yield what lives under the uid (None: nothing). A zombie is dead, unless threads of it live on.

    Looks until nothing is new, as what it did not come to see may have forked before it ended; some times at
    most, for others' processes may come as fast as it looks.
    """
    with contextlib.ExitStack() as stack:
        found, seen, looks = list[Process](), set[int](), 0
        while (looks := looks + 1) <= _LOOKS and (new := set(_pids()) - seen):
            seen |= new
            for pid in sorted(new):
                with contextlib.suppress(ProcessLookupError):
                    if _is_of(_status(pid), uid):
                        pidfd = os.pidfd_open(pid)
                        stack.callback(os.close, pidfd)
                        status = _status(pid)
                        if _is_of(status, uid) and not _ended(pidfd, 0):
                            ours, leads = _uid(status) == uid, os.getsid(pid) == pid or _is_first(status)
                            found.append(Process(pid, pidfd, ours and leads, ours and not leads))
        yield found


def living(policy: Policy) -> dict[int, list[int]]:
    """Return what lives under the uids of slots, as pids by slot; what is a zombie does not."""
    found = defaultdict(list)
    for pid in _pids():
        with contextlib.suppress(ProcessLookupError):
            status = _status(pid)
            slot = policy.slot_of(_uid(status))
            if slot is not None and b"\nState:\tZ" not in status:
                found[slot].append(pid)
    return found


def require_none(host: RootHost, entry: Entry) -> None:
    """Raise StageFailedError while anything of the VM lives."""
    with held(host.uid(entry)) as alive:
        if alive:
            raise StageFailedError(
                f"VM {entry.vm_id} still runs (process {', '.join(str(process.pid) for process in alive)})",
                resolution="Stop or kill it first.",
            )


def end(uid: int | None, name: Signal) -> None:
    """Send the VMM the signal, then SIGKILL where 5 s did not do; StageFailedError unless all are dead then.

    The keeper ends by itself, when it has written how the VMM did; it and whatever else is left is killed.
    It is sent a milder signal too: QEMU's ignores it, Firecracker's asks the guest, as that VMM heeds none.
    """
    if name != "KILL":
        _end(uid, name, SIGNAL_DEADLINE_S, all_of_it=True)
    _end(uid, "KILL", DEATH_DEADLINE_S, all_of_it=False)
    deadline = time.monotonic() + DEATH_DEADLINE_S
    while left := _end(uid, "KILL", DEATH_DEADLINE_S, all_of_it=True):  # what forks is not caught at once
        if time.monotonic() > deadline:
            raise StageFailedError(
                f"Process {left[0]} is alive {DEATH_DEADLINE_S:g} s after SIGKILL",
                resolution="It hangs in the kernel, most likely in input or output. Mend that and try again.",
            )


def _end(uid: int | None, name: Signal, wait_s: float, *, all_of_it: bool) -> list[int]:
    """Signal the VMM, or all of it, and wait until it is dead; return what lived at the start.

    Once the VMM is, its keeper is given a moment to end by itself.
    """
    with held(uid) as alive:
        told = [process for process in alive if process.is_vmm or all_of_it]
        for process in told:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signal.Signals[f"SIG{name}"])
        if _all_ended(told, wait_s):
            _all_ended(alive, LAST_WORDS_S)
        return [process.pid for process in alive]


def _all_ended(some: list[Process], wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    return all(_ended(process.pidfd, max(0.0, deadline - time.monotonic())) for process in some)


def _ended(pidfd: int, wait_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def _pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def _status(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123  (a path takes as long again)
            return file.read(1024)
    except FileNotFoundError as error:
        raise ProcessLookupError(f"there is no process {pid}") from error


def _is_first(status: bytes) -> bool:
    """Tell whether a process is the first of a PID namespace of its own: it has another number there, 1."""
    numbers = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    return len(numbers) > 1 and numbers[-1] == b"1"


def _is_of(status: bytes, uid: int | None) -> bool:
    """Tell whether a process runs as the uid, or is root's and has it for a group, by a whole line."""
    groups, end, _ = status.partition(b"\nGroups:")[2].partition(b"\n")
    return _uid(status) == uid or (_uid(status) == 0 and bool(end) and str(uid).encode() in groups.split())


def _uid(status: bytes) -> int:
    """Return a process's uid. Not by the owner of /proc/PID: a process can make that root's."""
    return int(status.partition(b"\nUid:")[2].split(maxsplit=1)[0])
