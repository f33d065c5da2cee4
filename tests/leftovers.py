"""What tests (and a farm) can leave on a machine, as a set of lines that can be compared."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

TEST_ROOTS = "banger-test-*"  # in /var/tmp: the state and run directories of the tests' own farms
PROCESSES = re.compile(r"qemu-system|redis-server|celery|banger\.embedded|root_worker|/bin/banger")


@contextlib.contextmanager
def beside_others() -> Iterator[IO[str]]:
    """Say that tests run here, while in the block; yield the lock, which others may hold as well."""
    with Path("/tmp/banger-tests.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield lock


def on_this_machine() -> set[str]:
    """Return everything of ours that is there now, one line each."""
    return {
        *_links(),
        *_tables(),
        *_loops(),
        *_mounts(),
        *_processes(),
        *_cgroups(),
        *(f"network namespace {path.name}" for path in Path("/run/netns").glob("*")),
        *(f"directory {path}" for path in Path("/var/tmp").glob(TEST_ROOTS)),
        *(f"directory {path}" for path in Path("/tmp").glob("mmdebstrap.*")),  # of a killed image build
    }


def _cgroups() -> Iterator[str]:
    for place, names, _ in os.walk("/sys/fs/cgroup"):  # unlike glob, it forgives what goes meanwhile
        if Path(place).name.startswith("banger"):
            yield from (f"cgroup {path}" for path in (place, *(f"{place}/{name}" for name in names)))


def _links() -> Iterator[str]:
    for path in Path("/sys/class/net").iterdir():
        if path.name.startswith("bgr"):
            yield f"link {path.name}"


def _tables() -> Iterator[str]:
    listed = subprocess.run(["/usr/sbin/nft", "-j", "list", "tables"], capture_output=True, check=False)
    for entry in json.loads(listed.stdout or b"{}").get("nftables", []):
        table = entry.get("table", {})
        if table.get("name", "").startswith("banger"):
            yield f"nft table {table['family']} {table['name']}"


def _loops() -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        yield f"{path.parts[3]} of {path.read_text().strip()}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        yield f"mount at {line.split()[1]}"


def _processes() -> Iterator[str]:
    """Yield what we, or nobody any more, is the parent of: not what a person runs in a shell beside us."""
    argv = {path.name: _read(path / "cmdline").replace("\0", " ") for path in Path("/proc").glob("[0-9]*")}
    ours = {pid for pid, text in argv.items() if PROCESSES.search(text) and "pytest" not in text}
    parents = {pid: _read(Path("/proc", pid, "stat")).rpartition(")")[2].split()[1:2] for pid in ours}
    for pid in ours:
        top = pid
        while (parent := next(iter(parents[top]), "1")) in ours:
            top = parent
        if parent in ("1", str(os.getpid())):
            yield f"process {pid}: {argv[pid][:150]}"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
