"""A real sshd that stands in for a guest: it has the VM's host key and admits the farm's."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path

import psutil

from banger.contracts.names import HostPaths, link_alias

SSHD = Path("/usr/sbin/sshd")
VM = "0123456789ab"
ADDRESS = "127.0.0.1"
_DEADLINE_S = 10.0


class StandIn:
    """An sshd with the VM's host key, which can be started late, and stopped."""

    def __init__(self, paths: HostPaths, directory: Path) -> None:
        self._paths = paths
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        paths.keys.mkdir(parents=True)
        paths.vm(VM).mkdir(parents=True)
        make_key(paths.identity)
        make_key(paths.host_key(VM))
        self.trust(paths.host_key(VM))

    def trust(self, key: Path) -> None:
        public = key.with_suffix(".pub").read_text()
        self._paths.known_hosts(VM).write_text(f"{link_alias(VM)} {public}")

    def start(self, *, instead: str = "") -> None:
        """Start it; ``instead`` is what it runs in place of any command: a stand-in must never power off."""
        config = self._directory / "sshd_config"
        config.write_text(
            f"ListenAddress {ADDRESS}\nHostKey {self._paths.host_key(VM)}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self._paths.identity}.pub\nStrictModes no\n"
            "PermitRootLogin prohibit-password\nMaxStartups 100\n"
            + (f"ForceCommand {instead}\n" if instead else "")
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._process = subprocess.Popen(
            [SSHD, "-D", "-q", "-f", config], stdin=subprocess.DEVNULL, start_new_session=True
        )

    def wait_for_port(self) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((ADDRESS, 22), timeout=_DEADLINE_S).close()
                return
        raise TimeoutError("the stand-in did not start")

    def stop(self) -> None:
        if self._process is None:
            return
        sessions = psutil.Process(self._process.pid).children(recursive=True)  # they would outlive it
        self._process.kill()
        self._process.wait()
        for session in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                session.kill()
        self._process = None


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
