"""What is brought back from a run, whatever became of it: the journal, the console, VMs' logs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from lab.connection import LabError
from lab.machine import Machine

_DEADLINE_S = 120.0
_JOURNAL = "journalctl --no-pager --output=short-precise --boot=all 2>/dev/null | tail -c 50000000 | gzip -1"
_STATE = (
    "systemctl --no-pager --failed; systemctl --no-pager status 'banger*'; dmsetup status; losetup; "
    "ip -brief address; nft list ruleset; systemd-cgls --no-pager; ps auxww; free -m; df -h"
)
_VM_LOGS = "cd /var/lib/banger; tar -cz --ignore-failed-read install.json registry vms/*/*.log 2>/dev/null"
_SCRIPTS = {"journal.txt.gz": _JOURNAL, "state.txt": f"({_STATE}) 2>&1", "vms.tar.gz": _VM_LOGS}


def collect(machine: Machine, out: Path) -> None:
    """Copy into ``out`` what the host and its console have to say; what cannot be had is left out."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("serial.log", "qemu.log"):
        with contextlib.suppress(OSError):
            shutil.copy(machine.directory / name, out)
    for name, script in _SCRIPTS.items():
        with contextlib.suppress(LabError, OSError, subprocess.SubprocessError):
            (out / name).write_bytes(machine.try_run(f"set +e\n{script}", deadline_s=_DEADLINE_S).stdout)
