"""One supervised process: started, watched, restarted with a growing delay, stopped within its bound."""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime

from banger.embedded.plan import Service, ServiceStatus, State
from banger.shell import spawn

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
STEADY_S = 60.0  # a process that lived this long did start well: its next death is a first one again
MAX_LOG_BYTES = 16 * 1024 * 1024  # the older half is kept as NAME.log.1

log = logging.getLogger("banger.supervisor")


def restart_delay(deaths: int) -> float:
    """Return how many seconds to wait after this many deaths in a row: doubling, with a bound."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * float(1 << min(deaths - 1, 10)))


class Child:
    """A service and the process that it is now, if any."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.state: State = "waiting"
        self.restarts = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._since: datetime | None = None
        self._started = 0.0
        self._log_start = 0
        self._deaths = 0
        self._due = 0.0

    def rest_s(self, now: float, longest_s: float) -> float:
        """Return for how many seconds there is nothing to see here, unless the process dies."""
        if self._process is None:
            return min(longest_s, self._due - now)
        return longest_s if self.state == "running" else 0.0

    def due(self, now: float) -> bool:
        """Tell whether the service should be started now."""
        return self._process is None and now >= self._due

    def start(self, now: float) -> None:
        """Start the process; its output is appended to its log."""
        self._trim_log()
        self._log_start = self.service.log.stat().st_size if self.service.log.exists() else 0
        self._process = spawn(self.service.argv, env=self.service.env, output=self.service.log)
        self._since, self._started = datetime.now(UTC), now
        self.state = "starting"
        self.restarts += 1
        log.info("%s started as %d", self.service.name, self._process.pid)

    def look(self, now: float) -> None:
        """Notice that the process has become ready, or has died; then say when it is due again."""
        if self._process is None:
            return
        if (code := self._process.poll()) is not None:
            self._deaths = 1 if now - self._started >= STEADY_S else self._deaths + 1
            self._due = now + restart_delay(self._deaths)
            log.warning("%s (%d) ended with %d", self.service.name, self._process.pid, code)
            self._process, self._since, self.state = None, None, "waiting"
        elif self.state == "starting" and self._said_ready():
            self.state = "running"
            log.info("%s runs after %.1f s", self.service.name, now - self._started)
        else:
            self._trim_log()

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self.state = "stopping"
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for the end until the deadline (monotonic seconds), then kill: it was asked before."""
        if self._process is not None:
            try:
                self._process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("%s did not end in time and is killed", self.service.name)
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
        self._process, self._since, self.state = None, None, "stopped"

    def status(self) -> ServiceStatus:
        """Return what a person wants to know."""
        return ServiceStatus(
            name=self.service.name,
            state=self.state,
            pid=self._process.pid if self._process else None,
            since=self._since,
            restarts=max(0, self.restarts),
            user=self.service.user,
            serves=self.service.serves,
            optional=self.service.optional,
        )

    def _said_ready(self) -> bool:
        with contextlib.suppress(FileNotFoundError), self.service.log.open("rb") as file:
            file.seek(self._log_start)
            return self.service.ready_line.encode() in file.read()
        return False

    def _trim_log(self) -> None:
        """Copy a full log aside and empty it in place: its writer appends, and knows nothing of it."""
        path = self.service.log
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > MAX_LOG_BYTES:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                with path.open("r+b") as file:
                    file.truncate(0)
