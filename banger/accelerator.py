"""Find out whether KVM works on this host, by booting: that /dev/kvm opens proves nothing.

Root makes the boot's process, as an unprivileged user; both workers only read the verdict.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from banger.contracts import accelerator, qemu
from banger.contracts.accelerator import Accelerator, Verdict, groups_needed, proven
from banger.contracts.boot import boot_id
from banger.contracts.errors import ToolFailedError
from banger.private_file import write_private
from banger.settings import Settings
from banger.shell import find_tool, run

# Of a boot that takes half a second, where QEMU says its version in a twentieth. A host that is emulated
# itself is twenty times slower at both: the time that the one takes tells what is too long for the other.
PROBE_DEADLINE_S = 5.0
PATIENCE = 40
_VERSION_DEADLINE_S = 30.0


def probe(settings: Settings) -> Verdict | None:
    """Return the verdict on this boot's KVM, probing once; None where there is nothing to probe yet.

    Needs root. The verdict's file (``HostPaths.accelerator``) is what the root worker and doctor read.
    """
    device = accelerator.KVM
    groups = groups_needed(device.stat()) if device.exists() else None
    kernel = next(iter(sorted(settings.paths.kernels.glob("*/vmlinux"))), None)
    if settings.accelerator != "auto" or groups is None or kernel is None or not qemu.BINARY.exists():
        return None
    binary = qemu.BINARY.stat()
    boot = boot_id()
    key = f"{binary.st_size}-{binary.st_mtime_ns}"  # costs nothing, and changes whenever the version does
    file = settings.paths.accelerator
    with contextlib.suppress(FileNotFoundError, ValidationError):
        known = Verdict.model_validate_json(file.read_bytes())
        if (known.boot_id, known.qemu) == (boot, key):
            return known
    works, reason = _boot(kernel, settings.uid_base, groups)
    found = Verdict(boot_id=boot, qemu=key, works=works, reason=reason)
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_private(file, found.model_dump_json(), mode=0o644)
    return found


def chosen(wanted: Literal["auto", "kvm", "tcg"], verdict: Path) -> Accelerator:
    """Return what this host's VMMs run with, where a policy says ``wanted``: what root will choose.

    But that it looks at /dev/kvm too, which the worker's service does not see.
    """
    with contextlib.suppress(FileNotFoundError):
        if wanted == "auto" and proven(verdict.read_bytes(), boot_id()):
            return "kvm"
    return "kvm" if wanted == "kvm" else "tcg"


def _boot(kernel: Path, uid: int, groups: tuple[int, ...]) -> tuple[bool, str]:
    """Boot a kernel without a root file system, as a VMM would be: it must speak, panic, and end QEMU.

    ``uid`` is that of slot 0, which is no VM's. The kernel comes by descriptor: the way to it may be closed.
    """
    demoted = (
        *(find_tool("setpriv"), f"--reuid={uid}", f"--regid={uid}"),
        f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups",
        *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"),
    )
    try:
        with kernel.open("rb") as image:
            argv = qemu.probe_argv(Path(f"/proc/self/fd/{image.fileno()}"))
            ended = run((*demoted, *argv), deadline_s=_patience_s(), pass_fds=(image.fileno(),))
    except ToolFailedError as error:
        return False, f"a probe boot with KVM failed: {error.brief}"
    if b"Kernel panic" not in ended.stdout:
        return False, "a probe boot with KVM ended without a word from the kernel"
    return True, "a probe boot with KVM succeeded"


def _patience_s() -> float:
    """Return how long a boot may take on this host (seconds), as it is now."""
    started = time.monotonic()
    run((str(qemu.BINARY), "--version"), deadline_s=_VERSION_DEADLINE_S)
    return max(PROBE_DEADLINE_S, PATIENCE * (time.monotonic() - started))
