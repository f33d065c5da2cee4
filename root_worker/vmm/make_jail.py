"""Start Firecracker through its jailer, then become what keeps it.

Run by root in a Python of its own, with ARGV, and a keeper's plan on stdin: it carries out the plan's
``jail``, adds to the plan what the keeper needs of it, and executes ARGV.

The jail's files are on a file system in memory that exists in the VMM's own mount namespace alone. There it
sees the VM's disks, bind-mounted, whatever file system they are on. So nothing of it is left when the VMM
has ended, however it, we, or the host did; no jailer finds an older jail; what a VMM writes there is bounded.
"""

from __future__ import annotations

import _socket  # what calls in socket, all of which takes longer to import
import ctypes
import marshal
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
MORE_BYTES = 8 * 1024 * 1024  # than the program itself: sockets, FIFOs, device nodes
POLL_S = 0.002

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Do what the plan says; does not return."""
    plan = marshal.load(sys.stdin.buffer)  # noqa: S302  (from the root worker, by a pipe of its own)
    jail = plan.pop("jail")
    os.setgroups([jail["uid"]])  # who ends the VM finds by this what would become it, were we killed
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    check(libc.unshare(CLONE_NEWNS))
    plan |= start(jail, plan["cgroup_fds"])
    check(libc.setns(home, CLONE_NEWNS))
    told = os.memfd_create("plan")
    os.pwrite(told, marshal.dumps(plan), 0)
    os.dup2(told, 0)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606  (root's own argv, absolute, no shell)


def start(jail: dict[str, Any], cgroup_fds: tuple[int, ...]) -> dict[str, int]:
    """Make the jail's files, run the jailer, and wait until Firecracker listens; return descriptors.

    It enters its cgroups then, having opened nothing and used no memory: devices cannot be made in them.
    """
    root, uid = jail["root"], jail["uid"]
    furnish(jail)
    fifos = {f"{name}_fd": fifo(f"{root}/{name}", uid) for name in ("console", "metrics")}
    run_jailer(jail["argv"])
    pid, pidfd = await_vmm(jail)
    for fd in cgroup_fds:
        os.write(fd, str(pid).encode())
    found = {**fifos, "vmm_pidfd": pidfd, "api_fd": os.open(f"{root}/run", os.O_PATH | os.O_DIRECTORY)}
    for fd in found.values():
        os.set_inheritable(fd, True)
    return found


def furnish(jail: dict[str, Any]) -> None:
    """Mount the jail's own file system, where nobody else sees it, and show the VM's files in it."""
    mount("none", "/", MS_REC | MS_PRIVATE)
    mount("/dev/null", "/proc/misc", MS_BIND)  # where the jailer would find a /dev/userfaultfd to make
    program = jail["argv"][jail["argv"].index("--exec-file") + 1]
    size = os.stat(program).st_size + MORE_BYTES  # noqa: PTH116  (pathlib takes as long as all the rest)
    mount("banger-jail", jail["base"], MS_NOSUID, "tmpfs", f"mode=0700,size={size}")
    os.makedirs(f"{jail['root']}/run", 0o700)  # noqa: PTH103
    os.chown(f"{jail['root']}/run", jail["uid"], jail["uid"])
    for opened, path, name in jail["shown"]:
        here = os.open(path, os.O_PATH)  # again, since a mount is of the namespace that it was opened in
        if os.fstat(here)[1:3] != os.fstat(opened)[1:3]:  # inode and device
            sys.exit(f"{path} has become another file")
        target = f"{jail['root']}/{name}"
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        mount(f"/proc/self/fd/{here}", target, MS_BIND)
        os.close(here)


def fifo(path: str, uid: int) -> int:
    """Make a FIFO that the VM's uid writes to; return the end to read from."""
    os.mkfifo(path, 0o600)
    os.chown(path, uid, uid)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def run_jailer(argv: tuple[str, ...]) -> None:
    """Run the jailer, which says on stderr why it fails, and returns when it has left for the background."""
    child = os.fork()
    if child == 0:
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))  # no jailer goes on without us
        os.execve(argv[0], argv, {})  # noqa: S606
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"the jailer ended with {code}")


def await_vmm(jail: dict[str, Any]) -> tuple[int, int]:
    """Return Firecracker's pid, and a pidfd, once it listens: the jailer has left it to nobody."""
    deadline = time.monotonic() + jail["deadline_s"]
    vmm = None
    while time.monotonic() < deadline:
        if vmm is None:
            vmm = opened_vmm(jail)
        elif select.select([vmm[1]], [], [], 0)[0]:
            sys.exit("Firecracker ended at once")
        elif listens(f"{jail['root']}/run"):
            return vmm
        time.sleep(POLL_S)
    sys.exit(f"Firecracker did not listen within {jail['deadline_s']:g} s")


def listens(directory: str) -> bool:
    """Tell whether Firecracker takes connections: its socket has a name before. Nothing is read from it."""
    os.chdir(directory)  # the name of a socket is short
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    refused = line.connect_ex("firecracker.socket")
    line.close()
    return not refused


def opened_vmm(jail: dict[str, Any]) -> tuple[int, int] | None:
    """Return the process whose number the jailer has written down, once it is the VM's uid."""
    with suppress(FileNotFoundError, ValueError):
        with open(jail["pid_file"], "rb", buffering=0) as file:  # noqa: PTH123
            pid = int(file.read(32))
        try:
            pidfd = os.pidfd_open(pid)
            with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123
                status = file.read(1024)
        except (ProcessLookupError, FileNotFoundError):
            sys.exit("Firecracker could not be started")
        if status.partition(b"\nUid:")[2].split(None, 1)[0] == str(jail["uid"]).encode():
            return pid, pidfd
        os.close(pidfd)
    return None


def mount(source: str, target: str, flags: int, kind: str | None = None, data: str | None = None) -> None:
    """Call mount(2)."""
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    check(libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]))


def check(result: int) -> None:
    """Raise OSError where a system call has failed."""
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
