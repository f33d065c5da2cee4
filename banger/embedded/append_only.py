"""Holes in Redis' append-only file, and what they are filled with. Pure.

Redis 7.0 opens the file without O_APPEND after a rewrite. What it wrote of its commands when its disk was
full it cuts off again, and writes all of them later: where it stood by then, behind a hole of zeros. Its next
start refuses that file, though nothing is missing in it. A hole lies between two commands, where Redis passes
over remarks (``#``, as of ``aof-timestamp-enabled``): filled with one, in place, the file is whole again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

_REMARK_BYTES = 512  # a line; Redis reads 1,023 at most
_HOLE = re.compile(rb"(?:#[^\n\0]*)?\0+")  # with the remark of which no more was written
_REMARK = re.compile(rb"#[^\n\0]*\n")
_ARGUMENTS = re.compile(rb"\*([1-9]\d{0,9})\r\n")
_LENGTH = re.compile(rb"\$(0|[1-9]\d{0,9})\r\n")


class Hole(NamedTuple):
    """Zeros where a command would begin: their first byte, and the first behind them."""

    start: int
    end: int


def holes(data: bytes | mmap) -> Iterator[Hole]:
    """Yield the holes between commands, until the end or what is no command."""
    at: int | None = 0
    while at is not None and at < len(data):
        if found := _HOLE.match(data, at):
            yield Hole(*found.span())
            at = found.end()
        elif found := _REMARK.match(data, at):
            at = found.end()
        else:
            at = _after_command(data, at)


def remark(length: int) -> bytes:
    """Return as many bytes that Redis passes over; ValueError for one, which is too short for a line."""
    if length < 2:
        raise ValueError("a remark takes two bytes")
    lines = []
    while length:
        size = min(length, _REMARK_BYTES)
        size -= length - size == 1  # which would leave a line of one byte
        lines.append(b"#" + b" " * (size - 2) + b"\n")
        length -= size
    return b"".join(lines)


def _after_command(data: bytes | mmap, at: int) -> int | None:
    """Return where a command ends, None where there is none, or not all of it."""
    if not (head := _ARGUMENTS.match(data, at)):
        return None
    at = head.end()
    for _ in range(int(head[1])):
        if not (length := _LENGTH.match(data, at)):
            return None
        end = length.end() + int(length[1])
        if data[end : end + 2] != b"\r\n":
            return None
        at = end + 2
    return at
