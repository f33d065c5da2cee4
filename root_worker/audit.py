"""Root's audit: what it was asked, what came of it and what it refused, appended to a chain of lines."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from banger.contracts.audit import Head, append, follow, whole_lines

FILE_BYTES = 32 * 1024 * 1024
REFUSALS_A_SECOND = 50  # have a line of their own; of a flood, the rest is counted

log = logging.getLogger("root_worker.audit")


class Audit:
    """Appends to the newest file of a directory, and begins another when that is full. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._lock = threading.Lock()
        newest_first = sorted(directory.glob("*.jsonl"), reverse=True)
        ends = (lines[-1:] for file in newest_first if (lines := whole_lines(file.read_bytes())))
        self.head = follow(next(ends, [])) or Head()
        self._fd = self._begin_file()  # never after what a power cut may have left of a line
        self.refusals = self._in_this_second = self._second = 0

    def write(self, event: str, **fields: Any) -> None:
        """Append one event."""
        with self._lock:
            self._append({"event": event} | fields)

    def refused(self, reason: str, **fields: Any) -> bool:
        """Count a refusal, append it and log it; of a flood, which is told, only the first of each second."""
        with self._lock:
            self._sum_up()
            self.refusals += 1
            self._in_this_second += 1
            if self._in_this_second <= REFUSALS_A_SECOND:
                self._append({"event": "refused", "reason": reason} | fields)
                log.warning("refused a message: %s", reason)
            return self._in_this_second > REFUSALS_A_SECOND

    def published(self) -> dict[str, Any]:
        """Return what Redis is to know: where the audit ends, and how much was refused since the start."""
        with self._lock:
            self._sum_up()
            return {"seq": self.head.seq, "hash": self.head.hash, "refused": self.refusals}

    def _sum_up(self) -> None:
        """Once a second is over, append how many of its refusals have no line."""
        if (second := int(time.monotonic())) == self._second:
            return
        self._second = second
        if (more := self._in_this_second - REFUSALS_A_SECOND) > 0:
            self._append({"event": "refused", "reason": "a flood: the others of one second", "count": more})
        self._in_this_second = 0

    def _append(self, event: dict[str, Any]) -> None:
        line, head = append(self.head, time.time(), event)
        size = os.fstat(self._fd).st_size
        if size + len(line) > FILE_BYTES:
            with suppress(OSError):  # on a full disk this one goes on
                another = self._begin_file()
                os.close(self._fd)
                self._fd, size = another, 0
        try:
            whole = os.write(self._fd, line) == len(line)
        except OSError:
            whole = False
        if whole:
            self.head = head
        else:  # a full disk must not keep root from removing what fills it; the log has it at least
            os.ftruncate(self._fd, size)
            log.error("the audit could not take %s", line.decode())

    def _begin_file(self) -> int:
        """Return the next line's file, emptied: one that is there has no whole line, or it would be read."""
        file = self._directory / f"{self.head.seq + 1:012d}.jsonl"
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
