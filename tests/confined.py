"""Run a program as systemd would run a unit's: ``python confined.py UNIT ARGV...``.

There is no systemd where these tests run, so this does what its settings do, as far as a process can do it to
itself: the user, the capability bounding set, no new privileges, the umask, a file system that is read-only
but for ReadWritePaths, few devices, and seccomp filters. What needs a cgroup (addresses, the root worker's
DevicePolicy) is for the lab. Standard library and libseccomp only.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import resource
import struct
import subprocess
import sys
from pathlib import Path

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    *(0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000),
)
NAMESPACES = {
    "mnt": NEWNS,
    "cgroup": NEWCGROUP,
    "uts": NEWUTS,
    "ipc": NEWIPC,
    "user": NEWUSER,
    "pid": NEWPID,
    "net": NEWNET,
}
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_PDEATHSIG, PR_SET_KEEPCAPS = 38, 24, 1, 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAPABILITY_VERSION_3 = 47, 2, 0x20080522
ALLOW, EPERM = 0x7FFF0000, 0x00050001
NE, MASKED_EQ, GT = 1, 7, 6
WRITE_EXECUTE, EXECUTE = 0x6, 0x4

_libc = ctypes.CDLL(None, use_errno=True)


def settings_of(unit: Path) -> dict[str, list[str]]:
    """Return the [Service] section: each name with all its values."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().partition("[Service]")[2].splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


def main() -> None:
    unit, *argv = sys.argv[1:]
    settings = settings_of(Path(unit))
    _see_less(settings)
    os.umask(int(settings["UMask"][-1], 8))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = min(int(settings.get("LimitNOFILE", [str(hard)])[-1]), hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    filters = _Filters()
    _fill(filters, settings)  # asks systemd-analyze, which the filters would not let us
    _become(settings)
    _libc.prctl(PR_SET_PDEATHSIG, 15, 0, 0, 0)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    filters.load()
    os.execv(argv[0], argv)


def _see_less(settings: dict[str, list[str]]) -> None:
    """Make the file system read-only but for what the unit may write, and hide devices from who has none."""
    _check(_libc.unshare(NEWNS))
    _mount("--make-rslave", "/")
    writable = [path.removeprefix("-") for path in settings.get("ReadWritePaths", ())]
    for path in writable:
        if Path(path).is_dir():
            _mount("--rbind", path, path)
    if "yes" in settings.get("PrivateDevices", ()):
        _mount("-t", "tmpfs", "-o", "mode=0755", "dev", "/mnt")
        for name in DEVICES:
            Path("/mnt", name).touch()
            _mount("--bind", f"/dev/{name}", f"/mnt/{name}")
        for name in ("shm", "pts"):
            Path("/mnt", name).mkdir()
        _mount("-t", "tmpfs", "-o", "mode=1777", "shm", "/mnt/shm")
        _mount("--move", "/mnt", "/dev")
    if settings.get("ProtectProc") == ["invisible"]:
        _mount("-t", "proc", "-o", "hidepid=invisible", "proc", "/proc")
    kept = ("/proc", "/sys", "/dev", *writable)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = line.split()[1].encode().decode("unicode_escape")
        if not any(place == path or place.startswith(f"{path}/") for path in kept):
            subprocess.run(["mount", "-o", "remount,bind,ro", place], capture_output=True, check=False)


def _become(settings: dict[str, list[str]]) -> None:
    """Drop the capabilities that the unit does not name, and become its user."""
    kept = {_number(name) for value in settings["CapabilityBoundingSet"] for name in value.split()}
    for number in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        if number not in kept:
            _check(_libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
    user = settings.get("User", ["root"])[-1]
    if user != "root":
        account = pwd.getpwnam(user)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        _libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
        _keep({_number(name) for value in settings["AmbientCapabilities"] for name in value.split()})


def _keep(capabilities: set[int]) -> None:
    """Have these capabilities and no others, and hand them on to what is executed."""
    bits = sum(1 << number for number in capabilities)  # all of ours are among the first 32
    header, sets = struct.pack("=Ii", CAPABILITY_VERSION_3, 0), struct.pack("=6I", bits, bits, bits, 0, 0, 0)
    _check(_libc.capset(header, sets))
    for number in capabilities:
        _check(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0))


def _number(capability: str) -> int:
    """Return a capability's number; the kernel's header is where it stands."""
    names = (
        "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable "
        "net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot "
        "sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease "
        "audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read "
        "perfmon bpf checkpoint_restore"
    )
    return names.split().index(capability.removeprefix("CAP_").lower())


class _Condition(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


class _Filters:
    """Seccomp filters, each for itself, as systemd loads them."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libseccomp.so.2")
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._made: list[ctypes.c_void_p] = []

    def begin(self, default: int) -> None:
        self._made.append(ctypes.c_void_p(self._lib.seccomp_init(ctypes.c_uint32(default))))

    def rule(self, action: int, call: str, *conditions: tuple[int, int, int, int]) -> None:
        number = self._lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # not of this architecture
        array = (_Condition * len(conditions))(*conditions)
        context, what = self._made[-1], ctypes.c_uint32(action)
        self._lib.seccomp_rule_add_array(context, what, number, ctypes.c_uint(len(conditions)), array)

    def load(self) -> None:
        for context in reversed(self._made):  # the first allows no seccomp any more
            _check(self._lib.seccomp_load(context))


def _fill(filters: _Filters, settings: dict[str, list[str]]) -> None:
    filters.begin(EPERM)
    for call in _allowed_calls(settings["SystemCallFilter"]):
        filters.rule(ALLOW, call)
    filters.begin(ALLOW)
    families = {FAMILIES[name] for name in settings["RestrictAddressFamilies"][-1].split()}
    for family in set(range(64)) - families:
        filters.rule(EPERM, "socket", (0, 4, family, 0))
    filters.begin(ALLOW)
    named = settings["RestrictNamespaces"][-1].split()
    for name, flag in NAMESPACES.items():
        if name not in named:
            for call in ("unshare", "clone"):
                filters.rule(EPERM, call, (0, MASKED_EQ, flag, flag))
            filters.rule(EPERM, "setns", (1, MASKED_EQ, flag, flag))
    filters.begin(ALLOW)
    filters.rule(0x00050000 | 38, "clone3")  # ENOSYS: its flags cannot be seen; libc takes clone then
    if "yes" in settings.get("MemoryDenyWriteExecute", ()):
        filters.begin(ALLOW)
        filters.rule(EPERM, "mmap", (2, MASKED_EQ, WRITE_EXECUTE, WRITE_EXECUTE))
        filters.rule(EPERM, "mprotect", (2, MASKED_EQ, EXECUTE, EXECUTE))
        filters.rule(EPERM, "pkey_mprotect", (2, MASKED_EQ, EXECUTE, EXECUTE))
    filters.begin(ALLOW)
    for call, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2)):
        for bit in (0o4000, 0o2000):
            filters.rule(EPERM, call, (argument, MASKED_EQ, bit, bit))


def _allowed_calls(lines: list[str]) -> set[str]:
    """Return the system calls that SystemCallFilter's lines leave: the first allows, others change that."""
    allowed: set[str] = set()
    for line in lines:
        names = _expand(line.removeprefix("~").split())
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed | _expand(["@default"])


def _expand(names: list[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        found |= _expand(_GROUPS[name]) if name.startswith("@") else {name}
    return found


def _groups() -> dict[str, list[str]]:
    said = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True)
    blocks = re.split(r"\n(?=@)", said.stdout)
    return {
        block.split()[0]: re.findall(r"^    ([@a-z_0-9-]+)$", block, re.MULTILINE)
        for block in blocks
        if block.startswith("@")
    }


_GROUPS = _groups()


def _mount(*words: str) -> None:
    subprocess.run(["mount", "--no-mtab", *words], check=True)


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno() or -result
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    main()
