"""The words that take a program's rights away before it starts; both the tools on a guest's disk and its VMM.

util-linux does it all: each word execs the next, and the last the program, with nothing to come back to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

LIMITS = {
    "as": 512 * 1024 * 1024,
    "stack": 1024 * 1024,  # of each thread too, and e2fsprogs makes one a processor
    "nproc": 64,
    "cpu": 10,
    "core": 0,
}


def mortal(argv: Sequence[str], tool: Callable[[str], str]) -> tuple[str, ...]:
    """Return the argv that runs another one which dies with us, were we killed: the next worker starts anew.

    The kernel kills it with the thread that started it, which waits for it. It forgets to for what changes
    its user, and for children: a sandbox, which may have some, has a first process that they die with.
    """
    return (tool("setpriv"), "--pdeathsig", "KILL", "--", *argv)


def unprivileged(uid: int, tool: Callable[[str], str], groups: Collection[int] = ()) -> tuple[str, ...]:
    """Return the words that run a program as ``uid`` and gid, with these groups, without a way back.

    ``tool`` returns a tool's path. ValueError for root's uid.
    """
    if uid < 1:
        raise ValueError(f"uid {uid} is not an unprivileged one")
    return (
        *(tool("setpriv"), f"--reuid={uid}", f"--regid={uid}"),
        f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups",
        *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"),
    )


def sandboxed(uid: int, tool: Callable[[str], str], root: Path, max_file: int | None) -> tuple[str, ...]:
    """Return the words that run a program as ``uid``, with nothing but what its descriptors give it.

    No groups, no capabilities and no way to gain any; no network, no System V IPC, no process of others to
    see or signal, no file but what is beneath ``root`` (with a directory ``proc``); bounded memory,
    processor time and processes; files of ``max_file`` bytes (None: unbounded).
    """
    limits = LIMITS | ({} if max_file is None else {"fsize": max_file})
    return (
        *(tool("unshare"), "--net", "--ipc", "--pid", "--kill-child", "--mount-proc", f"--root={root}", "--"),
        # Signals such as SIGXFSZ spare the first process of a namespace, so the program is not that.
        *(tool("setsid"), "--fork", "--wait"),
        *(tool("prlimit"), *(f"--{name}={limit}" for name, limit in limits.items()), "--"),
        *unprivileged(uid, tool),
    )
