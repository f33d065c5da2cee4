"""A stand-in for Firecracker's jailer: the system calls of the real one, in its order, and its refusals.

The program that it would execute, a script in these tests, has no interpreter in a jail: it is compiled
before the jail is entered, and called in place of execve(2).
"""

from __future__ import annotations

import argparse
import ctypes
import errno  # noqa: F401  (what the jailed program imports is loaded while it can be found)
import fcntl  # noqa: F401
import json  # noqa: F401
import os
import re
import resource
import socket  # noqa: F401
import stat
import struct  # noqa: F401
import sys
from pathlib import Path
from typing import Any  # noqa: F401

VERSION = "1.16.1"
CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
MS_SLAVE, MS_REC, MS_BIND, MNT_DETACH = 1 << 19, 0x4000, 0x1000, 2
SYS_PIVOT_ROOT = 155

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    os.closerange(3, 65536)
    os.environ.clear()
    if "--version" in sys.argv:
        print(f"Jailer v{VERSION}\n")
        return
    parser = argparse.ArgumentParser()
    for name in ("id", "exec-file", "uid", "gid", "chroot-base-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--resource-limit", action="append", default=[])
    parser.add_argument("--daemonize", action="store_true")
    parser.add_argument("--new-pid-ns", action="store_true")
    asked = parser.parse_args()
    try:
        validate(asked)
        run(asked)
    except (OSError, ValueError) as error:
        print(f"Jailer error: {error}", file=sys.stderr)
        os._exit(101)


def validate(asked: argparse.Namespace) -> None:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", asked.id):
        raise ValueError("Invalid instance ID")
    asked.exec_file = Path(asked.exec_file).resolve(strict=True)
    if not asked.exec_file.is_file():
        raise ValueError(f"{asked.exec_file} is not a file")
    if "firecracker" not in asked.exec_file.name:
        raise ValueError("Invalid filename. The filename of `--exec-file` option must contain 'firecracker'")
    asked.chroot_base_dir = Path(asked.chroot_base_dir).resolve(strict=True)
    if not asked.chroot_base_dir.is_dir():
        raise ValueError(f"{asked.chroot_base_dir} is not a directory")
    for number in (asked.uid, asked.gid):
        if not re.fullmatch(r"[0-9]+", number) or int(number) >= 2**32:
            raise ValueError(f"Invalid uid or gid: {number}")
    for limit in asked.resource_limit:
        if not re.fullmatch(r"(fsize|no-file)=[0-9]+", limit):
            raise ValueError(f"Invalid resource argument: {limit}")


def copy(program: Path, to: Path, uid: int, gid: int) -> None:
    """Copy the program, which becomes the VM's own. Its mode is what the umask leaves of it."""
    fd = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, program.stat().st_mode)
    if os.fstat(fd).st_nlink > 1:
        raise ValueError(f"Detected hard link at: {to}")
    os.fchown(fd, uid, gid)
    os.write(fd, program.read_bytes())
    os.close(fd)


def run(asked: argparse.Namespace) -> None:
    uid, gid, program = int(asked.uid), int(asked.gid), asked.exec_file
    root = asked.chroot_base_dir / program.name / asked.id / "root"
    root.mkdir(parents=True, exist_ok=True)
    code = compile(program.read_text(), str(program), "exec")
    copy(program, root / program.name, uid, gid)
    for limit in ("no-file=2048", *asked.resource_limit):
        name, value = limit.split("=")
        kind = {"fsize": resource.RLIMIT_FSIZE, "no-file": resource.RLIMIT_NOFILE}[name]
        resource.setrlimit(kind, (int(value), int(value)))
    devnull = os.open("/dev/null", os.O_RDONLY)
    userfault = [
        line.split()[0] for line in Path("/proc/misc").read_text().splitlines() if "userfault" in line
    ]
    pivot(root)
    for directory in ("/", "/dev", "/dev/net", "/run"):
        Path(directory).mkdir(parents=True, exist_ok=True)
        Path(directory).chmod(0o700)
        os.chown(directory, uid, gid)
    devices = {"/dev/net/tun": (10, 200), "/dev/kvm": (10, 232), "/dev/urandom": (1, 9)}
    devices.update(("/dev/userfaultfd", (10, int(minor))) for minor in userfault)
    for path, numbers in devices.items():
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(*numbers))
        os.chown(path, uid, gid)
    if asked.daemonize:
        if os.fork():
            os._exit(0)
        os.setsid()
        if os.fork():
            os._exit(0)
        for stream in (0, 1, 2):
            os.dup2(devnull, stream)
        os.close(devnull)
    pid = os.getpid()
    if asked.new_pid_ns:
        check(libc.unshare(CLONE_NEWPID), "clone")
        pid = os.fork()
    if pid:
        with Path(f"/{program.name}.pid").open("x") as file:
            file.write(str(pid))
        if asked.new_pid_ns:
            os._exit(0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libc.prctl(4, 1, 0, 0, 0)  # as execve makes it: dumpable
    jailed: dict[str, object] = {"__name__": "jailed"}
    try:
        exec(code, jailed)
        times = ("--start-time-us", "--start-time-cpu-us", "--parent-cpu-time-us")
        jailed["main"](["--id", asked.id, *(word for one in times for word in (one, "1"))])  # type: ignore[operator]
    finally:
        os._exit(0)


def pivot(root: Path) -> None:
    check(libc.unshare(CLONE_NEWNS), "unshare")
    check(libc.mount(None, b"/", None, MS_SLAVE | MS_REC, None), "slave")
    check(libc.mount(bytes(root), bytes(root), None, MS_BIND | MS_REC, None), "bind")
    os.chdir(root)
    Path("old_root").mkdir(0o600)
    check(libc.syscall(SYS_PIVOT_ROOT, b".", b"old_root"), "pivot_root")
    os.chdir("/")
    check(libc.umount2(b"old_root", MNT_DETACH), "umount")
    Path("old_root").rmdir()


if __name__ == "__main__":
    main()
