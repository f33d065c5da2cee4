"""Choose KVM or emulation for this host, by booting: that /dev/kvm opens proves nothing."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from banger.contracts.errors import ToolFailedError
from root_worker import shell
from root_worker.host import RootHost
from root_worker.ops.spawn import demoted
from root_worker.vmm import qemu

DEVICE = Path("/dev/kvm")
PROBE_DEADLINE_S = 5.0

_READ_WRITE = 0o6


class Choice(NamedTuple):
    """The accelerator, and why it is this one."""

    accelerator: qemu.Accelerator
    reason: str


class _Verdict(BaseModel):
    """What a probe found, for as long as neither the kernel nor QEMU changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boot_id: str
    qemu: str
    works: bool
    reason: str


def choose_accelerator(host: RootHost) -> Choice:
    """Return what this host's VMMs run with.

    The first call of a boot may probe, PROBE_DEADLINE_S at most: the root worker makes it when it starts.
    Later ones read the verdict, well under a millisecond.
    """
    if host.policy.accelerator != "auto":
        return Choice(host.policy.accelerator, "root's policy says so")
    if not DEVICE.exists():
        return Choice("tcg", f"there is no {DEVICE}")
    if kvm_groups() is None:
        return Choice("tcg", f"only root may open {DEVICE}; VMMs are not root")
    kernel = next(iter(sorted(host.paths.kernels.glob("*/vmlinux"))), None)
    if kernel is None:
        return Choice("tcg", "there is no kernel yet to probe KVM with")
    works, reason = _verdict(host, kernel)
    return Choice("kvm" if works else "tcg", reason)


def kvm_groups() -> tuple[int, ...] | None:
    """Return the groups that a VMM needs to open /dev/kvm, often none; None where no group would do."""
    try:
        found = DEVICE.stat()
    except FileNotFoundError:
        return None
    if found.st_mode & _READ_WRITE == _READ_WRITE:
        return ()
    if found.st_gid != 0 and stat.S_IMODE(found.st_mode) >> 3 & _READ_WRITE == _READ_WRITE:
        return (found.st_gid,)
    return None


def _verdict(host: RootHost, kernel: Path) -> tuple[bool, str]:
    host.paths.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    binary = qemu.BINARY.stat()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    key = f"{binary.st_size}-{binary.st_mtime_ns}"  # costs nothing, and changes whenever the version does
    fd = os.open(host.paths.run / "accelerator.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600)
    with os.fdopen(fd, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one probe a host; who comes second reads what it found
        try:
            known = _Verdict.model_validate_json(file.read())
        except ValidationError:
            known = None
        if known is None or (known.boot_id, known.qemu) != (boot_id, key):
            works, reason = _probe(host, kernel)
            known = _Verdict(boot_id=boot_id, qemu=key, works=works, reason=reason)
            file.seek(0)
            file.truncate()
            file.write(known.model_dump_json())
    return known.works, known.reason


def _probe(host: RootHost, kernel: Path) -> tuple[bool, str]:
    """Boot a kernel without a root file system, as a VMM would be: it must speak, panic, and end QEMU.

    It runs under the uid of slot 0, which is no VM's.
    """
    argv = (*demoted(host.policy.uid_base, kvm_groups() or ()), *qemu.probe_argv(kernel))
    try:
        ended = shell.run(argv, deadline_s=PROBE_DEADLINE_S)
    except ToolFailedError as error:
        return False, f"a probe boot with KVM failed: {error.brief}"
    if b"Linux version" not in ended.stdout:
        return False, "a probe boot with KVM ended without a word from the kernel"
    return True, "a probe boot with KVM succeeded"
