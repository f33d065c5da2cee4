"""Where a worker can die, enumerated: every event that changes something, while a step's effect runs.

It lives in the workers' own processes. An audit hook sees what Python does to the world (files, processes,
devices); a few wrappers add what it has no event for (netlink, signals through a pidfd, writes to Redis, and
that a tool has been started). Each event in the thread of an effect is a *point*, numbered from 1; the point
lies before its event. Around an effect there are four more: ``taken`` (from its queue, its ticket used up,
and not claimed yet), ``before``, ``after`` and ``reported``.

Where the plan names a point, the thread stops there and says so; whoever made the plan kills the process,
or takes the entry away again, and it goes on. What was counted is told at the end of each effect, so a dry
pass, with an empty plan, is what enumerates.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

At = str | int  # "taken", "before", "after", "reported", or a point's number

_CHANGES = frozenset(
    {
        *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate"),
        *("os.link", "os.symlink", "os.setxattr", "os.kill", "os.killpg", "os.fork", "os.posix_spawn"),
        *("subprocess.Popen", "fcntl.ioctl", "fcntl.flock", "socket.bind", "sqlite3.connect"),
    }
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_REDIS_WRITES = frozenset(
    {b"EVAL", b"EVALSHA", b"HSET", b"SET", b"DEL", b"LPUSH", b"MULTI", b"XADD", b"ZADD", b"EXPIRE", b"HDEL"}
)
_POLL_S = 0.01
_here = threading.local()


class Place:
    """One effect, or one order, that this thread is at. ``step`` is its name in the plan."""

    def __init__(self, directory: Path, side: str, vm_id: str, job: str, step: str) -> None:
        self.directory, self.side = directory, side
        self.vm_id, self.job, self.step = vm_id, job, step
        self.events: list[str] = []
        self.watching = False
        self.tool: int | None = None
        self._asked = [entry for entry in self._plan() if self._is_ours(entry)]

    def event(self, name: str) -> None:
        """Count an event, and stop before it where that is planned."""
        self.watching = False  # what we do here is no event
        try:
            self.events.append(name)
            self.point(len(self.events))
        finally:
            self.watching = True

    def point(self, at: At) -> None:
        """Stop here where that is planned, or end the tool that was just started."""
        for entry in self._asked:
            if entry["at"] != at:
                continue
            self._tell_reached(entry)
            if entry["how"] == "fail":
                from banger.contracts.errors import StageFailedError

                raise StageFailedError("the chaos made this fail")
            if entry["how"] == "tool":
                if self.tool is not None:
                    os.kill(self.tool, signal.SIGKILL)
                continue
            while entry in self._plan():
                time.sleep(_POLL_S)

    def told(self) -> None:
        """Append what was counted to this side's list."""
        line = json.dumps({"vm": self.vm_id, "job": self.job, "step": self.step, "events": self.events})
        with (self.directory / f"seen-{self.side}.jsonl").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{line}\n")

    def _plan(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.directory / "plan.json").read_text())
        return found

    def _is_ours(self, entry: dict[str, Any]) -> bool:
        """Tell whether an entry is about this place: of that job of the VM, or of whichever (None)."""
        ours = (entry["vm"], entry["step"]) == (self.vm_id, self.step)
        return ours and entry["job"] in (None, self.job)

    def _tell_reached(self, entry: dict[str, Any]) -> None:
        (self.directory / "reached" / entry["id"]).touch()


class CrashPoints:
    """The points of one worker process: ``side`` is ``work`` or ``root``."""

    def __init__(self, directory: Path, side: str) -> None:
        self._directory = directory
        self._side = side

    def install(self) -> None:
        """Watch this process from now on; a hook cannot be taken away again."""
        sys.addaudithook(_hook)
        _watch(signal, "pidfd_send_signal", "signal")
        _watch_tools()
        _watch_redis()

    def around_step(self, run_step: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``run_step`` with points in the effect that it is about to run."""

        def run(call: Any, journal: Any, effects: Any, *rest: Any, **more: Any) -> Any:
            key = call.stage, call.direction
            effect = self._watched(call.vm_id, call.job, call.step, effects[key])
            self._place(call.vm_id, call.job, call.step).point("taken")
            return run_step(call, journal, {**effects, key: effect}, *rest, **more)

        return run

    def around_order(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return the body of reserve, begin or unwind with points in it."""

        def body(farmhand: Any, order: Any) -> Any:
            if getattr(_here, "place", None) is not None:
                return run(farmhand, order)  # begin, as the end of reserve
            vm_id = getattr(order, "vm", None)
            if vm_id is None:  # an unwinding names its job alone
                job = farmhand.records.job(order.job)
                vm_id = job.vm if job else ""
            return self._watched(vm_id, order.job, name, run)(farmhand, order)

        return body

    def after_report(self, finish: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``Journal._finish`` with a point after it: reported, and nothing sent yet."""

        def report(journal: Any, call: Any, *rest: Any, **more: Any) -> Any:
            said = finish(journal, call, *rest, **more)
            self._place(call.vm_id, call.job, call.step).point("reported")
            return said

        return report

    def _watched(self, vm_id: str, job: str, step: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            place = self._place(vm_id, job, step)
            place.point("before")
            _here.place, place.watching = place, True
            try:
                done = effect(*args, **kwargs)
            finally:
                place.watching, _here.place = False, None
                place.told()
            place.point("after")
            return done

        return run

    def _place(self, vm_id: str, job: str, step: str) -> Place:
        return Place(self._directory, self._side, vm_id, job, step)


def _event(name: str) -> None:
    place = getattr(_here, "place", None)
    if place is not None and place.watching:
        place.event(name)


def _hook(name: str, args: tuple[Any, ...]) -> None:
    place = getattr(_here, "place", None)
    if place is not None and place.watching and name in _CHANGES and not _changes_nothing(name, args):
        place.event(name)


def _changes_nothing(name: str, args: tuple[Any, ...]) -> bool:
    """Tell whether it only reads, or concerns a tool's input and output, which are memory of the process."""
    if name == "open":
        return not (isinstance(args[2], int) and args[2] & _WRITING)
    if name == "os.truncate" and isinstance(args[0], int):
        return str(Path(f"/proc/self/fd/{args[0]}").readlink()).startswith("/memfd:")
    return False


def watch_netlink(ip_route: Any) -> None:
    """Count what is asked of the kernel's network: an audit hook sees no ``send``."""
    find = ip_route.__getattr__

    def found(route: Any, name: str) -> Any:
        method = find(route, name)
        if name not in ("link", "brport", "fdb", "neigh", "addr"):
            return method

        def asked(command: str, *args: Any, **kwargs: Any) -> Any:
            if command not in ("get", "dump"):
                _event(f"netlink.{name}")
            return method(command, *args, **kwargs)

        return asked

    ip_route.__getattr__ = found


def _watch(owner: Any, name: str, event: str) -> None:
    original = getattr(owner, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        _event(event)
        return original(*args, **kwargs)

    setattr(owner, name, run)


def _watch_tools() -> None:
    """Add the point at which a tool runs: the hook's own event comes before it is there."""
    execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def started(process: Any, *args: Any, **kwargs: Any) -> None:
        execute(process, *args, **kwargs)
        place = getattr(_here, "place", None)
        if place is not None:
            place.tool = process.pid
        _event("started")

    subprocess.Popen._execute_child = started  # type: ignore[attr-defined]


def _watch_redis() -> None:
    from redis.connection import AbstractConnection

    send = AbstractConnection.send_packed_command

    def sent(connection: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        words = (command if isinstance(command, bytes) else b"".join(command)).split(b"\r\n", 3)
        if len(words) > 2 and words[2].upper() in _REDIS_WRITES:
            _event(f"redis.{words[2].decode().lower()}")
        return send(connection, command, *args, **kwargs)

    AbstractConnection.send_packed_command = sent  # type: ignore[method-assign]
