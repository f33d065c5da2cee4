"""Root's audit as text: JSON lines, each with the hash of the one before it, so that none can be altered.

A cut at the end cannot be seen in the lines alone: root publishes the last line's number and hash as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

START = "0" * 64  # what the very first line has before it


def audit_key(host: str) -> str:
    """Return the key where root publishes its audit's head and how much it has refused (a hash)."""
    return f"banger:audit:{host}"


@dataclass(frozen=True)
class Head:
    """Where a chain ends: the number of its last line, and that line's hash."""

    seq: int = 0
    hash: str = START


class BrokenChainError(ValueError):
    """A line is not the one that was written, or not where it was written."""


def append(head: Head, at: float, event: Mapping[str, Any]) -> tuple[bytes, Head]:
    """Return the line, with its newline, that records an event after ``head``, and the head that it makes."""
    entry = {"seq": head.seq + 1, "at": round(at, 3), "prev": head.hash, **event}
    line = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    return line + b"\n", Head(head.seq + 1, hashlib.sha256(line).hexdigest())


def whole_lines(content: bytes) -> list[bytes]:
    """Return a file's lines; what a power cut left of a last one has no newline, and is none."""
    return content.split(b"\n")[:-1]


def follow(lines: Iterable[bytes], head: Head | None = None) -> Head | None:
    """Return the head of lines that follow upon ``head``; BrokenChainError at the first that does not.

    Without a head the first line is taken at its word: older files may have been put away.
    """
    for line in lines:
        try:
            entry = json.loads(line)
            seq, prev = int(entry["seq"]), str(entry["prev"])
        except (ValueError, TypeError, KeyError):
            where = f"after line {head.seq}" if head else "at its beginning"
            raise BrokenChainError(f"{where} is one that cannot be read") from None
        if head is not None and (seq, prev) != (head.seq + 1, head.hash):
            raise BrokenChainError(f"line {seq} does not follow upon line {head.seq} as it was written")
        head = Head(seq, hashlib.sha256(line).hexdigest())
    return head
