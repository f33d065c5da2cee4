"""The lab's host as it runs: QEMU with a copy-on-write view of the disk, and the SSH connection into it.

What tests use of it (the fixture ``lab`` is one, with a farm installed):

    lab.run("dmsetup ls | wc -l", deadline_s=20)  # bash, as root; stdout; LabError unless it ends with 0
    lab.run("banger vm list", user="anna")        # as the farm's owner
    lab.try_run("false").code                     # whatever it ends with; .out, .err
    lab.json("banger vm show dev --json")
    lab.put(Path("x"), "/root/x"), lab.fetch("/var/log/x", Path("x"))
    lab.reboot(), lab.power_cut()                 # both return when SSH answers again

A script may have many lines (``set -euo pipefail`` is on) and costs 0.1 s; each ``banger`` in it takes two
seconds and more. The host is one for all tests: what a test makes, it removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import qemu
from lab.connection import Connection, Ended, LabError

RUN_DIR = Path("/var/tmp/banger-lab")  # short: the path of a Unix socket ends at 107 bytes
BOOT_DEADLINE_S = 300.0
_POLL_S = 0.3
_OLD_BOOT_S = 90.0
_LAST_WORDS = 3000  # characters


def require_ours(run_dir: Path) -> None:
    """Raise LabError where somebody else could put hosts into the directory that they are in, if it is there.

    /var/tmp is everybody's: who had made it first would be sent our commands, and root's writes by a link.
    """
    with contextlib.suppress(FileNotFoundError):
        found = run_dir.lstat()
        ours = found.st_uid == os.geteuid() and not found.st_mode & 0o077
        if not (stat.S_ISDIR(found.st_mode) and ours):
            raise LabError(f"{run_dir} is not a directory of ours that is closed to others: remove it")


class Machine:
    """One host. It is where its directory is: a process that did not start it can use it as well."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.connection = Connection(directory)
        self._process: subprocess.Popen[bytes] | None = None

    # -- its life

    def start(self, disk: Path, *, images: Path | None, detached: bool, keep: Sequence[int] = ()) -> None:
        """Boot from a directory of the cache, and return when SSH answers; LabError when it does not.

        ``images`` is a tar that the host reads as /dev/vdb. Unless ``detached``, the host dies with this
        process, whatever kills that. ``keep`` are descriptors that it holds open.
        """
        run_dir = self.directory.parent
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_ours(run_dir)
        self.directory.mkdir(mode=0o700)
        shutil.copy(disk / "id_ed25519", self.directory)
        kind, key, _ = (disk / "host_ed25519.pub").read_text().split()
        (self.directory / "known_hosts").write_text(f"lab {kind} {key}\n")
        port = qemu.free_port()
        (self.directory / "port").write_text(str(port))
        mortal = () if detached else ("/usr/bin/setpriv", "--pdeathsig", "KILL", "--")
        with (self.directory / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                (*mortal, *qemu.argv(self.directory, disk, images, port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PATH": "/usr/bin:/bin",
                    "TMPDIR": str(self.directory),
                },  # what changes on the disk goes there
                start_new_session=True,
                pass_fds=keep,
            )
        self._wait_for_ssh(BOOT_DEADLINE_S)

    def stop(self) -> None:
        """End it at once, as if its power were cut for good, and forget it."""
        if self.directory.exists():
            self.connection.close()
        with contextlib.suppress(OSError):
            qemu.monitor(self.directory, "quit")
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def runs(self) -> bool:
        """Tell whether its QEMU is there: nobody else listens on its monitor."""
        try:
            qemu.monitor(self.directory, "query-status")
        except OSError:
            return False
        return True

    def reboot(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        """Shut it down in order, boot it again, and return when SSH answers."""
        before = self.boot_id()
        self.try_run("systemctl reboot --no-block")
        self._wait_for_boot(before, deadline_s)

    def power_cut(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        """Reset it without a word to its kernel, and return when SSH answers."""
        before = self.boot_id()
        qemu.monitor(self.directory, "system_reset")
        self._wait_for_boot(before, deadline_s)

    def boot_id(self) -> str:
        """Return the kernel's name for this boot."""
        return self.run("cat /proc/sys/kernel/random/boot_id").strip()

    def panic(self) -> str:
        """Return what its kernel said when it panicked, after which it boots anew by itself; else nothing."""
        before, panicked, after = self._console().partition("Kernel panic - not syncing")
        return f"{before[-_LAST_WORDS:]}{panicked}{after[:200]}" if panicked else ""

    # -- commands and files

    def run(self, script: str, *, deadline_s: float = 60.0, user: str = "root", stdin: bytes = b"") -> str:
        """Run a bash script there and return its stdout; LabError with all it said unless it ends with 0."""
        ended = self.try_run(script, deadline_s=deadline_s, user=user, stdin=stdin)
        if ended.code:
            said = f"{ended.out[-4000:]}\n{ended.err[-4000:]}".strip()
            raise LabError(f"{script!r} ended with {ended.code} in the lab's host\n{said}")
        return ended.out

    def json(self, script: str, *, deadline_s: float = 60.0, user: str = "root") -> Any:
        """Run a script there and return what its stdout says, as JSON."""
        return json.loads(self.run(script, deadline_s=deadline_s, user=user))

    def try_run(
        self, script: str, *, deadline_s: float = 60.0, user: str = "root", stdin: bytes = b""
    ) -> Ended:
        """Run a bash script there to its end, whichever; LabError when that does not come by the deadline."""
        return self.connection.execute(script, deadline_s=deadline_s, user=user, stdin=stdin)

    def put(self, local: Path, remote: str, *, mode: int = 0o644) -> None:
        """Copy a file into the host; it is root's there."""
        self.run(
            f"install -m {mode:o} /dev/stdin {shlex.quote(remote)}", stdin=local.read_bytes(), deadline_s=180
        )

    def fetch(self, remote: str, local: Path) -> None:
        """Copy a file out of the host."""
        ended = self.try_run(f"cat {shlex.quote(remote)}", deadline_s=180)
        if ended.code:
            raise LabError(f"{remote} cannot be read in the lab's host: {ended.err}")
        local.write_bytes(ended.stdout)

    # -- waiting

    def _wait_for_boot(self, before: str, deadline_s: float) -> None:
        """Wait until another boot than ``before`` answers; the old connection ends with the old boot."""
        started = time.monotonic()
        self.connection.close()
        while time.monotonic() < started + _OLD_BOOT_S + deadline_s:
            self._wait_for_ssh(deadline_s)
            with contextlib.suppress(LabError):
                if self.boot_id() != before:
                    return
            self.connection.close()
            time.sleep(_POLL_S)
        raise LabError(f"the host did not boot anew within {deadline_s:g} s{self._last_words()}")

    def _wait_for_ssh(self, deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while not self.connection.open():
            if self._process is not None and self._process.poll() is not None:
                said = (self.directory / "qemu.log").read_text(errors="replace")
                raise LabError(f"QEMU ended with {self._process.returncode}\n{said}{self._last_words()}")
            if time.monotonic() > deadline:
                raise LabError(f"the host does not answer SSH after {deadline_s:g} s{self._last_words()}")
            time.sleep(_POLL_S)

    def _last_words(self) -> str:
        return f"; its console:\n{self._console()[-_LAST_WORDS:]}"

    def _console(self) -> str:
        """Return all that its kernels have said; nothing where it has no console yet, or no longer."""
        with contextlib.suppress(OSError):
            return (self.directory / "serial.log").read_text(errors="replace")
        return ""
