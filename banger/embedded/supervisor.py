"""The supervisor: a daemon that starts a plan's services, restarts the dead ones, and stops them in order.

``python -m banger.embedded.supervisor`` reads a plan (JSON) from stdin, leaves the terminal's session, and
answers when it holds the plan's lock. The lock, not a pid file, says whether it lives: the kernel
drops it with the process. SIGTERM ends it; the VMs are nobody's children here and stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from banger.contracts.errors import ConflictError
from banger.embedded.child import Child
from banger.embedded.plan import FarmStatus, Plan

STARTING_TICK_S = 0.05
IDLE_TICK_S = 5.0

log = logging.getLogger("banger.supervisor")


def supervise(plan: Plan, holding: Callable[[], None] = lambda: None) -> None:
    """Run the plan until SIGTERM or SIGINT, then stop every service; ConflictError when one already does.

    ``holding`` is called once the plan's lock is ours: from then on, whoever asks finds us.
    """
    with _hold(plan.lock_file), _wakeups() as wakeups:
        holding()
        children = {service.name: Child(service) for service in plan.services}
        since = datetime.now(UTC)
        try:
            while not wakeups.asked_to_end:
                _step(children)
                _publish(plan, children, since)
                wakeups.wait(_tick(children))
        finally:
            _stop(plan, children, since)
            plan.status_file.unlink(missing_ok=True)


def _step(children: dict[str, Child]) -> None:
    now = time.monotonic()
    for child in children.values():
        child.look(now)
        if child.due(now) and all(children[need].state == "running" for need in child.service.needs):
            child.start(now)


def _tick(children: dict[str, Child]) -> float:
    now = time.monotonic()
    return max(STARTING_TICK_S, min(child.rest_s(now, IDLE_TICK_S) for child in children.values()))


def _stop(plan: Plan, children: dict[str, Child], since: datetime) -> None:
    """Stop group after group; within a group all at once, each with its own bound, then killed."""
    for names in plan.stop_order:
        group = [children[name] for name in names]
        for child in group:
            child.ask_to_end()
        _publish(plan, children, since)
        asked = time.monotonic()
        for child in group:
            child.end(asked + child.service.stop_s)
        _publish(plan, children, since)


def _publish(plan: Plan, children: dict[str, Child], since: datetime) -> None:
    """Write the status file whole, when it says something new."""
    services = tuple(child.status() for child in children.values())
    text = FarmStatus(pid=os.getpid(), since=since, services=services).model_dump_json(indent=2)
    with contextlib.suppress(FileNotFoundError):
        if plan.status_file.read_text() == text:
            return
    scratch = plan.status_file.with_suffix(".new")
    scratch.write_text(text)
    scratch.replace(plan.status_file)


@contextlib.contextmanager
def _hold(lock_file: Path) -> Iterator[None]:
    # A POSIX lock: unlike flock's, it can be asked for its holder's pid (see ``lock``).
    with lock_file.open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError("a supervisor of this farm runs already") from None
        yield


class _Wakeups:
    """Signals as something to wait for: SIGCHLD says look, SIGTERM and SIGINT say end."""

    def __init__(self, readable: int) -> None:
        self._readable = readable
        self.asked_to_end = False

    def end(self, _number: int, _frame: object) -> None:
        self.asked_to_end = True

    def wait(self, seconds: float) -> None:
        if select.select([self._readable], [], [], seconds)[0]:
            os.read(self._readable, 512)


@contextlib.contextmanager
def _wakeups() -> Iterator[_Wakeups]:
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakeups = _Wakeups(readable)
    handlers = {signal.SIGTERM: wakeups.end, signal.SIGINT: wakeups.end, signal.SIGCHLD: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    before_fd = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield wakeups
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


def main() -> None:
    """Become a daemon: the parent exits once the supervisor has left its session and taken its log."""
    plan = Plan.model_validate_json(sys.stdin.buffer.read())
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os._exit(0 if os.read(ready, 1) else 1)
    os.setsid()
    plan.log.touch(mode=0o640)
    with plan.log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.basicConfig(format="[%(asctime)s] %(message)s", level=logging.INFO)
    os.close(ready)

    def answer() -> None:
        os.write(tell, b"1")
        os.close(tell)

    supervise(plan, answer)


if __name__ == "__main__":
    main()
