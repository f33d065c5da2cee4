"""The VMM's keeper: starts it, keeps its console in a bounded log, records how it ended.

Run as ``python -I -S keeper.py banger-ID`` with a plan on stdin, marshalled. Root has made it the VM's uid by
then, in the VMMs' root directory, without capabilities or a network: not one line of this runs with a
privilege. All that it needs is open. The first process says that the VMM runs, and ends; the keeper
has left its session by then and is nobody's child. It survives the worker and ends when the VMM does, which
it ends itself when the VM's time to live is over: whether anybody else of the farm lives or not.

Standard library only, and little of that: importing json, signal and typing takes as long as Python takes to
start (8 ms), before every VM's VMM, and memory in every VM's keeper.
"""

from __future__ import annotations

import _ctypes  # what calls in ctypes, all of which takes 3 ms
import _signal  # type: ignore[import-not-found]  # what signal is made of, without its enums
import marshal
import os
import resource
import select  # this one and time are part of Python's own binary
import sys
import time

TYPE_CHECKING = False  # as type checkers know it, without importing typing
if TYPE_CHECKING:
    from typing import Any

CHUNK_BYTES = 65536
MAX_OPEN_FILES = 1024
PR_SET_DUMPABLE = 4
TERM_S = 5.0
LOOK_S = 60.0  # a host that slept is a minute late at most


def main() -> int:
    """Leave the worker's session, then keep the VMM; return the exit code of the first process."""
    plan = marshal.load(sys.stdin.buffer)  # noqa: S302  (from the root worker, by a pipe of its own)
    os.close(plan["lock_fd"])  # root holds it for us as long as our uid does not tell whose we are
    for fd in plan["cgroup_fds"]:
        os.write(fd, b"0")  # ourselves
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    # Disks are sparse files of known sizes: whoever takes a VMM over can fill them, and not the host's disk.
    largest = max(plan["log_bytes"], *(os.fstat(fd).st_size for fd in plan["vmm_fds"]), 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    become_untraceable()
    answer, report = os.pipe()
    if leader := os.fork():
        os.close(report)
        os.waitpid(leader, 0)  # once we answer, none but the VMM leads a session under its uid
        return 0 if all(os.read(answer, 1) for _ in ("the keeper", "the VMM")) else 1
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


def become_untraceable() -> None:
    """Let no process of our uid trace us: the VMM could do as us what its seccomp filter forbids itself."""
    libc = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # ourselves, as ctypes does it
    if _ctypes.call_function(_ctypes.dlsym(libc, "prctl"), (PR_SET_DUMPABLE, 0, 0, 0, 0)):
        raise OSError("prctl failed")


def keep(plan: dict[str, Any], report: int) -> None:
    """Start the VMM, say that we are ready, and copy its console until it ends."""
    for fd in (plan["log_fd"], plan["old_log_fd"]):
        os.set_inheritable(fd, False)
    console, console_end = os.pipe()
    devnull = os.open(os.devnull, os.O_RDWR)
    vmm = os.fork()
    if vmm == 0:
        run_vmm(plan["argv"], report, devnull, console_end)
    for signal_number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
        _signal.signal(signal_number, _signal.SIG_IGN)  # we end when the VMM does
    os.write(report, b"!")
    for stream in (0, 1, 2):
        os.dup2(devnull, stream)
    # The VMM must hold the only copies: its end is seen by the end of its sockets.
    for fd in (*plan["vmm_fds"], report, devnull, console_end):
        os.close(fd)
    log = BoundedLog(plan["log_fd"], plan["old_log_fd"], plan["log_bytes"])
    watch(vmm, console, log, plan["lives_s"])
    code = os.waitstatus_to_exitcode(os.waitpid(vmm, 0)[1])
    how = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
    log.append(f"\n[banger] the VMM {how}\n".encode())


def watch(vmm: int, console: int, log: BoundedLog, lives_s: float | None) -> None:
    """Copy the console until the VMM ends; end it when its time to live (seconds) is over."""
    end = os.pidfd_open(vmm)  # a VMM that closes its console has not ended
    poll = select.poll()
    for fd in (console, end):
        poll.register(fd, select.POLLIN)
    over = None if lives_s is None else now() + lives_s
    signals = [_signal.SIGTERM, _signal.SIGKILL]
    while True:
        left = None if over is None or not signals else over - now()
        if left is not None and left <= 0:
            number = signals.pop(0)
            log.append(f"\n[banger] the time to live is over: signal {number} to the VMM\n".encode())
            os.kill(vmm, number)  # ours, and not waited for yet: nobody else can have its pid
            over = now() + TERM_S
            continue
        ready = [fd for fd, _ in poll.poll(None if left is None else min(left, LOOK_S) * 1000 + 1)]
        if console in ready:
            if chunk := os.read(console, CHUNK_BYTES):
                log.append(chunk)
            else:
                poll.unregister(console)
        elif end in ready:
            return


def now() -> float:
    """Return the seconds since the host's boot, those that it slept among them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def run_vmm(argv: list[str], report: int, devnull: int, console_end: int) -> None:
    """Become the VMM, leader of a session, and say so; never return. Its console tells what goes wrong."""
    try:
        os.setsid()
        os.write(report, b"!")
        os.umask(0o077)
        os.dup2(devnull, 0)
        os.dup2(console_end, 1)
        os.dup2(console_end, 2)
        os.execv(argv[0], argv)  # noqa: S606  (no shell is what we want)
    except BaseException as error:
        os.write(console_end, f"cannot start {argv[0]}: {error}\n".encode())
    finally:
        os._exit(126)


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
