"""What stands in for systemd where none runs: transient units with cgroups of version 2 that are real.

It does what ``root_worker.vmm.units`` would run: ``systemd-run`` makes a cgroup, puts a process into it, and
connects that to a socket; a unit goes with the last process in its cgroup. The lab has the real one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from banger.contracts.errors import ToolFailedError
from root_worker.shell import Completed
from root_worker.vmm import units

# In the group first, then connected by itself: that is whom the kernel tells of.
_HOLDER = """
import os, socket, sys
open(sys.argv[1], "w").write("0")
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[2])
os.dup2(line.fileno(), 0)
os.execv("/usr/bin/cat", ["cat"])
"""


class StandIn:
    """``fails`` is what becomes of units: None, ``refused``, ``before`` it comes, or ``late``: never."""

    def __init__(self, hierarchy: Path, transient: Path) -> None:
        self.slice = hierarchy / f"banger-test-{os.getpid()}.slice"
        self.transient = transient
        self.fails: str | None = None
        self.asked: list[Sequence[str]] = []
        self._watchers: list[threading.Thread] = []

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        self.asked.append(argv)
        if Path(argv[0]).name == "systemd-run":
            self._start(dict(word.removeprefix("--").split("=", 1) for word in argv if "=" in word), argv)
        elif argv[1] == "stop":
            self._stop(argv[2])
        return Completed(0, b"", b"")

    def _start(self, words: dict[str, str], argv: Sequence[str]) -> None:
        unit, file = words["unit"], self.transient / words["unit"]
        if self.fails == "refused" or file.exists():
            raise ToolFailedError("systemd-run ended with 1", details=f"Unit {unit} was already loaded.")
        file.touch()
        if self.fails == "before":
            file.unlink()
        if self.fails:
            return
        (path,) = (word.partition("=file:")[2] for word in argv if "StandardInput=file:" in word)
        group = self.slice / unit
        group.mkdir(parents=True)
        holder = subprocess.Popen(
            ["/usr/bin/python3", "-c", _HOLDER, str(group / "cgroup.procs"), path], stdout=subprocess.DEVNULL
        )
        watcher = threading.Thread(target=self._watch, args=(holder, group, file), daemon=True)
        watcher.start()
        self._watchers.append(watcher)

    def _watch(self, holder: subprocess.Popen[bytes], group: Path, file: Path) -> None:
        holder.wait()
        while "populated 1" in (group / "cgroup.events").read_text():
            time.sleep(0.005)
        group.rmdir()
        file.unlink()

    def _stop(self, unit: str) -> None:
        procs = self.slice / unit / "cgroup.procs"
        if not procs.exists():
            (self.transient / unit).unlink(missing_ok=True)
            return
        for pid in procs.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.join(10)
        if self.slice.exists():
            self.slice.rmdir()


@contextlib.contextmanager
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Yield it, in place of systemd; skipped where this machine has no cgroups of version 2."""
    places = [
        line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if " cgroup2 " in line
    ]
    if not places:
        pytest.skip("this machine has no cgroups of version 2")
    made = StandIn(Path(places[0]), tmp_path)
    monkeypatch.setattr(units, "CGROUPS", Path(places[0]))
    monkeypatch.setattr(units, "TRANSIENT", tmp_path)
    monkeypatch.setattr(units, "run", made.run)
    try:
        yield made
    finally:
        made.close()
