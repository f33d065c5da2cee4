"""The VMM's keeper: starts it under its own uid, keeps its console in a bounded log, records how it ended.

Run as ``python -I -S shim.py banger-ID`` with a plan on stdin, marshalled. The first process answers with
the pids on stdout and ends; the keeper has left its session by then and is nobody's child. It drops to the
VM's uid before the VMM runs, and has opened all it needs: it survives the worker that started it, and its
restart, and ends when the VMM does.

Standard library only, and little of that: importing json, signal and typing takes as long as Python takes to
start (8 ms), before every VM's VMM, and memory in every VM's keeper.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal is made of, without its enums
import marshal
import os
import resource
import sys

TYPE_CHECKING = False  # as type checkers know it, without importing typing
if TYPE_CHECKING:
    from typing import Any

CHUNK_BYTES = 65536
MAX_OPEN_FILES = 1024


def main() -> int:
    """Leave the worker's session, then keep the VMM; return the exit code of the first process."""
    plan = marshal.load(sys.stdin.buffer)  # noqa: S302  (from the root worker, by a pipe of its own)
    answer, report = os.pipe()
    if os.fork():
        os.close(report)
        with os.fdopen(answer) as pipe:
            said = pipe.read()
        sys.stdout.write(said)
        return 0 if said else 1
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(answer)
    try:
        keep(plan, report)
    except Exception:
        sys.excepthook(*sys.exc_info())  # to the first process's stderr, while it is there
    finally:
        os._exit(0)


def keep(plan: dict[str, Any], report: int) -> None:
    """Start the VMM, say so, drop privileges, and copy its console until it ends."""
    for fd in (plan["log_fd"], plan["old_log_fd"], plan["pid_fd"]):
        os.set_inheritable(fd, False)
    console, console_end = os.pipe()
    gate, opener = os.pipe()
    vmm = os.fork()
    if vmm == 0:
        run_vmm(plan, gate, opener, console_end)
    for signal_number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
        _signal.signal(signal_number, _signal.SIG_IGN)  # we end when the VMM does
    pids = (
        f'{{"generation": {plan["generation"]}, "vmm": {identity(vmm)}, "shim": {identity(os.getpid())}}}'
    ).encode()
    # On file before the VMM runs: whoever dies now, it will be found again.
    os.write(plan["pid_fd"], pids)
    os.write(report, pids)
    devnull = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(devnull, stream)
    # The VMM must hold the only copies: its end is seen by the end of its sockets.
    for fd in (*plan["vmm_fds"], plan["pid_fd"], report, devnull, console_end, gate):
        os.close(fd)
    drop_to(plan["uid"])
    os.write(opener, b"!")
    os.close(opener)
    log = BoundedLog(plan["log_fd"], plan["old_log_fd"], plan["log_bytes"])
    while chunk := os.read(console, CHUNK_BYTES):
        log.append(chunk)
    code = os.waitstatus_to_exitcode(os.waitpid(vmm, 0)[1])
    how = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
    log.append(f"\n[banger] the VMM {how}\n".encode())


def run_vmm(plan: dict[str, Any], gate: int, opener: int, console_end: int) -> None:
    """Become the VMM once the gate opens; never return. What goes wrong here is said on its console."""
    try:
        os.close(opener)
        if not os.read(gate, 1):
            os._exit(125)  # the keeper died before it could say who we are
        os.setsid()
        os.umask(0o077)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(console_end, 1)
        os.dup2(console_end, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
        os.execv(plan["argv"][0], plan["argv"])  # noqa: S606  (no shell is what we want)
    except BaseException as error:
        os.write(console_end, f"cannot start the VMM: {error}\n".encode())
    finally:
        os._exit(126)


def drop_to(uid: int) -> None:
    """Become the VM's uid for good: no groups, and with root's uid go all capabilities."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def identity(pid: int) -> str:
    """Describe a process of ours as ``root_worker.registry.Process`` does, in JSON."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123  (no pathlib: 3 MiB)
        start_ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        boot_id = file.read().strip()
    return f'{{"pid": {pid}, "start_ticks": {start_ticks}, "boot_id": "{boot_id}"}}'


class BoundedLog:
    """Two halves of one limit: when the newer is full it becomes the older, in place, by descriptor."""

    def __init__(self, newer_fd: int, older_fd: int, limit_bytes: int) -> None:
        self._newer = newer_fd
        self._older = older_fd
        self._half = limit_bytes // 2

    def append(self, data: bytes) -> None:
        """Add up to CHUNK_BYTES. On a full disk they are lost: the guest must not wait for its log."""
        try:
            size = os.fstat(self._newer).st_size
            if size + len(data) > self._half:
                self._rotate(size)
            os.write(self._newer, data)
        except OSError:
            return

    def _rotate(self, size: int) -> None:
        os.ftruncate(self._older, 0)
        os.lseek(self._older, 0, os.SEEK_SET)
        start = max(0, size - self._half)  # a larger log was left by a policy with a larger limit
        try:
            while start < size and (sent := os.sendfile(self._older, self._newer, start, size - start)):
                start += sent
        finally:
            os.ftruncate(self._newer, 0)  # what is new is worth more than what is old


if __name__ == "__main__":
    sys.exit(main())
