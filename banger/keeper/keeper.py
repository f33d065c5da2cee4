"""The VMM's keeper: starts it, keeps its console in a bounded log, records how it ended.

Run as ``python -I -S keeper.py banger-ID`` with a plan on stdin, marshalled. Root has made it the VM's uid by
then, in the VMMs' root directory, without capabilities or a network: not one line of this runs with a
privilege. All that it needs is open. The first process says that the VMM runs, and ends; the keeper
has left its session by then and is nobody's child. It survives the worker and ends when the VMM does, which
it ends itself when the VM's time to live is over: whether anybody else of the farm lives or not.

Firecracker runs by then, in a jail that root has made it, and knows of no VM: the keeper tells it what to
run, by its API. What it answers is read here, without a privilege, and never by root.

Standard library only, and little of that: importing json, signal and typing takes as long as Python takes to
start (8 ms), before every VM's VMM, and memory in every VM's keeper.
"""

from __future__ import annotations

import _ctypes  # what calls in ctypes, all of which takes 3 ms
import _signal  # type: ignore[import-not-found]  # what signal is made of, without its enums
import _socket
import marshal
import os
import resource
import select  # this one and time are part of Python's own binary
import sys
import time

TYPE_CHECKING = False  # as type checkers know it, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

CHUNK_BYTES = 65536
MAX_OPEN_FILES = 1024
PR_SET_DUMPABLE = 4
TERM_S = 5.0
TERM_THEN_KILL = (_signal.SIGTERM, _signal.SIGKILL)
LOOK_S = 60.0  # a host that slept is a minute late at most
API_SOCKET = "firecracker.socket"  # beneath the directory of ``api_fd``
API_DEADLINE_S = 30.0  # the last request of all returns when the kernel is in the guest's memory
MAX_ANSWER_BYTES = 65536
MAX_LINE_BYTES = 262144  # of what Firecracker counts; longer ones are cut


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
        (keep_jailed if plan["requests"] else keep)(plan, report)
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
    end = os.pidfd_open(vmm)
    watch(end, {console: log.append}, log, plan["lives_s"], [signal_to(end, n) for n in TERM_THEN_KILL])
    code = os.waitstatus_to_exitcode(os.waitpid(vmm, 0)[1])
    how = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
    log.append(f"\n[banger] the VMM {how}\n".encode())


def keep_jailed(plan: dict[str, Any], report: int) -> None:
    """Tell Firecracker what to run, say that we are ready, and copy what it says until it ends.

    SIGTERM, by which root asks for a VM's end, becomes the keys that restart a guest, and so end Firecracker.
    """
    for signal_number in (_signal.SIGHUP, _signal.SIGINT):
        _signal.signal(signal_number, _signal.SIG_IGN)
    asked, wake = os.pipe()
    os.set_blocking(wake, False)
    _signal.signal(_signal.SIGTERM, lambda *_: None)
    _signal.set_wakeup_fd(wake)
    log = BoundedLog(plan["log_fd"], plan["old_log_fd"], plan["log_bytes"])
    vmm, api = plan["vmm_pidfd"], plan["api_fd"]
    kill = signal_to(vmm, _signal.SIGKILL)
    for fd in plan["vmm_fds"]:
        os.close(fd)
    try:
        for method, path, body in plan["requests"]:
            request(api, method, path, body)
    except Exception as error:
        while chunk := read_some(plan["console_fd"]):
            log.append(chunk)
        os.write(2, f"{error}\n".encode())
        kill()
        return
    os.write(report, b"!!")
    devnull = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(devnull, stream)
    for fd in (report, devnull):
        os.close(fd)

    def keys() -> str:
        try:
            method, path, body = plan["last_request"]
            request(api, method, path, body, TERM_S)
        except Exception as error:  # whatever it answers, we are here to end it
            return f"it cannot be asked to ({error})"
        return "Ctrl-Alt-Del to the guest"

    counted = Latest(plan["metrics_log_fd"])
    sources = {plan["console_fd"]: log.append, plan["metrics_fd"]: counted.keep}
    watch(vmm, sources, log, plan["lives_s"], [keys, kill], asked)
    log.append(b"\n[banger] the VMM has ended\n")


def read_some(fd: int) -> bytes:
    """Return what there is to read, b"" where there is nothing at the moment, or nothing ever again."""
    try:
        return os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return b""


def request(directory: int, method: str, path: str, body: bytes, deadline_s: float = API_DEADLINE_S) -> None:
    """Send one request to the API whose socket is in this directory; OSError unless it has been done.

    The name of a socket is short: it is told from within the directory, wherever that is. The deadline is for
    all of it: a VMM that was taken over may answer a byte at a time.
    """
    os.fchdir(directory)
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    over = now() + deadline_s
    try:
        line.settimeout(deadline_s)
        line.connect(API_SOCKET)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status, said = answer(line, over)
    finally:
        line.close()
    if status // 100 != 2:
        raise OSError(f"Firecracker answers {method} {path} with {status}: {said}")


def answer(line: Any, over: float) -> tuple[int, str]:
    """Read an answer until ``over`` at most; return its status, and what it says about itself."""
    said = b""
    length = None
    while length is None or len(said.partition(b"\r\n\r\n")[2]) < length:
        line.settimeout(max(over - now(), 0.001))
        if not (chunk := line.recv(CHUNK_BYTES)) or len(said) > MAX_ANSWER_BYTES:
            break
        said += chunk
        if length is None and b"\r\n\r\n" in said:
            fields = said.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
            length = next((int(one[15:]) for one in fields if one.startswith(b"content-length:")), 0)
    head, _, body = said.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise OSError("Firecracker has hung up without an answer")
    return int(words[1]), body.decode(errors="replace")


def signal_to(pidfd: int, number: int) -> Callable[[], str]:
    """Return what sends the VMM a signal, and says so."""

    def send() -> str:
        try:
            _signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return "it has ended already"
        return f"signal {number} to the VMM"

    return send


def watch(
    end: int,
    sources: Mapping[int, Callable[[bytes], None]],
    log: BoundedLog,
    lives_s: float | None,
    ways: list[Callable[[], str]],
    asked: int | None = None,
) -> None:
    """Read what the VMM says until it ends, which the pidfd ``end`` tells: it may close all else before.

    When its time to live (seconds) is over it is ended, in one of the ``ways`` after the other. What is
    written to ``asked`` uses the first of them earlier.
    """
    poll = select.poll()
    for fd in (*sources, end, *(() if asked is None else (asked,))):
        poll.register(fd, select.POLLIN)
    over = None if lives_s is None else now() + lives_s
    while True:
        left = None if over is None or not ways else over - now()
        if left is not None and left <= 0:
            log.append(f"\n[banger] the time to live is over: {ways.pop(0)()}\n".encode())
            over = now() + TERM_S
            continue
        ready = [fd for fd, _ in poll.poll(None if left is None else min(left, LOOK_S) * 1000 + 1)]
        if asked is not None and asked in ready:
            os.read(asked, CHUNK_BYTES)
            log.append(f"\n[banger] the VMM is asked to end: {ways[0]()}\n".encode() if ways else b"")
        if told := [fd for fd in ready if fd in sources]:
            for fd in told:
                if chunk := read_some(fd):
                    sources[fd](chunk)
                else:
                    poll.unregister(fd)
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


class Latest:
    """A file that holds the last whole line of what was said, and nothing older.

    Firecracker writes a line a KiB at a time, and the newline by itself.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begun = b""

    def keep(self, data: bytes) -> None:
        """Replace what the file holds, once a line has ended. On a full disk nothing is kept."""
        *whole, begun = (self._begun + data).split(b"\n")
        self._begun = begun[:MAX_LINE_BYTES]
        if not whole:
            return
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, whole[-1] + b"\n", 0)
        except OSError:
            return


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
