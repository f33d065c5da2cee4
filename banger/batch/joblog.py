"""A job's output on the disk of its host: lines with times, without secrets, and never more than was agreed.

    2026-11-28T16:31:05.123Z O collected 12 items
    2026-11-28T16:31:05.200Z E warning: …
    2026-11-28T16:31:09.001Z N the log is full …

O is stdout, E stderr, N a note of ours. The beginning is written as it comes. Of what is too much, the last
part is kept in memory and written at the end, for that is where a failure is told.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from banger.batch.masking import Masker

MAX_LINE_BYTES = 16 * 1024
TAIL_BYTES = 1024 * 1024

Stream = Literal["stdout", "stderr", "note"]
_LETTERS: dict[Stream, str] = {"stdout": "O", "stderr": "E", "note": "N"}
_STREAMS = {letter: stream for stream, letter in _LETTERS.items()}
# A terminal's commands, of which colours are kept (CSI … m); then what else is a control character, but tab.
_SEQUENCE = re.compile(
    r"\x1b\[([0-?]*[ -/]*)([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\^-~]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029]|\x1b(?!\[[0-9:;]*m)")
_COLOUR = re.compile(r"\x1b\[[0-9:;]*m")
_RESET = "\x1b[0m"
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([ENO]) (.*)", re.DOTALL)


class LogLine(NamedTuple):
    """A line of a job's log: when it came (UTC), from where, and its text."""

    at: datetime
    stream: Stream
    text: str


def read_lines(data: bytes) -> Iterator[LogLine]:
    """Yield the whole lines of a piece of a log; what is cut at either end of the piece is passed over.

    A follower goes on at ``data.rfind(b"\\n") + 1``.
    """
    for raw in data.split(b"\n")[:-1]:
        if found := _LINE.fullmatch(raw.decode(errors="replace")):
            with contextlib.suppress(ValueError):  # no date at all: not one of our lines
                yield LogLine(datetime.fromisoformat(found[1]), _STREAMS[found[2]], found[3])


class JobLog:
    """A job's log while it is written; ``emit`` is what ``banger.shell.stream`` takes.

    ``secrets`` never reach the file. Of ``max_bytes`` the last part (TAIL_BYTES, a quarter at most) is for
    the end of the output. All that came with whole lines is in the file when ``emit`` returns. An existing
    file is begun anew. OSError when the disk is full.
    """

    def __init__(
        self,
        path: Path,
        secrets: Sequence[str],
        max_bytes: int,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        tail_bytes = min(TAIL_BYTES, max_bytes // 4)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        self._bounded = _Bounded(fd, max_bytes - tail_bytes, tail_bytes)
        self._streams = {stream: _Lines(Masker(secrets)) for stream in ("stdout", "stderr")}
        self._now = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def emit(self, stream: Literal["stdout", "stderr"], chunk: bytes) -> None:
        """Take the next bytes of a stream."""
        self._write(stream, self._streams[stream].feed(chunk))

    def note(self, text: str) -> None:
        """Write a line of our own: why the output ends here, say."""
        self._write("note", [text.encode()])

    def close(self) -> None:
        """Write what is held: lines without an end, and the last part of too much. Again, it does nothing."""
        if self._bounded.closed:
            return
        for stream in ("stdout", "stderr"):
            self._write(stream, self._streams[stream].flush())
        self._bounded.close(self._stamp("note"))

    def _write(self, stream: Stream, lines: Sequence[bytes]) -> None:
        if lines:
            stamp = self._stamp(stream)
            self._bounded.write([b"%s %s\n" % (stamp, _shown(line)) for line in lines], self._stamp("note"))

    def _stamp(self, stream: Stream) -> bytes:
        at = self._now().astimezone(UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z {_LETTERS[stream]}".encode()


def shown_line(text: str, *, colours: bool = True) -> str:
    """Return a line that a terminal can be given: colours are all that it does there, or not even those."""
    if text.isprintable():
        return text
    text = _SEQUENCE.sub(lambda found: found[0] if found[2] == "m" else "", text)
    text = _CONTROL.sub("", text)
    return text if colours else _COLOUR.sub("", text)


def printed_line(text: str, *, colours: bool) -> str:
    """Return a line to print among others: its colours end where it does."""
    text = shown_line(text, colours=colours)
    return f"{text}{_RESET}" if "\x1b" in text else text


def _shown(line: bytes) -> bytes:
    return shown_line(line.decode(errors="replace")).encode()


class _Lines:
    """A stream's bytes into masked lines of bounded length.

    A carriage return ends a line too: what a progress bar writes over and over comes as lines of its own.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._partial = b""
        self._after_return = False

    def feed(self, chunk: bytes) -> list[bytes]:
        return self._split(self._masker.feed(chunk))

    def flush(self) -> list[bytes]:
        lines = self._split(self._masker.flush())
        if self._partial:
            lines.append(self._partial)
            self._partial = b""
        return lines

    def _split(self, data: bytes) -> list[bytes]:
        if not data:
            return []
        if self._after_return:
            data = data.removeprefix(b"\n")
        self._after_return = data.endswith(b"\r") or (self._after_return and not data)
        lines = (
            _LINE_END.split(self._partial + data) if b"\r" in data else (self._partial + data).split(b"\n")
        )
        self._partial = lines.pop()
        if len(self._partial) > MAX_LINE_BYTES:
            *pieces, self._partial = _pieces(self._partial)
            lines += pieces
        if max(map(len, lines), default=0) > MAX_LINE_BYTES:
            lines = [piece for line in lines for piece in _pieces(line)]
        return lines


def _pieces(line: bytes) -> list[bytes]:
    """Cut a long line, between characters where it is UTF-8."""
    pieces = []
    at = 0
    while len(line) - at > MAX_LINE_BYTES:
        end = at + MAX_LINE_BYTES
        while end > at + MAX_LINE_BYTES - 3 and line[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(line[at:end])
        at = end
    pieces.append(line[at:])
    return pieces


class _Bounded:
    """A file of lines that takes its first bytes as they come, and its last ones at its end."""

    def __init__(self, fd: int, head_bytes: int, tail_bytes: int) -> None:
        self.closed = False
        self._fd = fd
        self._head_left = head_bytes
        self._tail_bytes = tail_bytes
        self._full = False
        self._tail: deque[bytes] = deque()
        self._in_tail = 0
        self._left_out = 0

    def write(self, lines: list[bytes], note: bytes) -> None:
        fitting = len(lines) if not self._full else 0
        if not self._full and sum(map(len, lines)) > self._head_left:
            fitting = self._count_fitting(lines)
        if fitting:
            written = b"".join(lines[:fitting])
            self._head_left -= len(written)
            self._append(written)
        if fitting < len(lines):
            self._keep_in_tail(lines[fitting:], note)

    def close(self, note: bytes) -> None:
        """Write the tail, after a note of how much is missing before it."""
        try:
            if self._left_out:
                self._append(b"%s %d bytes of the log were left out here\n" % (note, self._left_out))
            self._append(b"".join(self._tail))
        finally:
            self.closed = True
            self._tail.clear()
            os.close(self._fd)

    def _count_fitting(self, lines: list[bytes]) -> int:
        left = self._head_left
        for count, line in enumerate(lines):
            left -= len(line)
            if left < 0:
                return count
        return len(lines)

    def _keep_in_tail(self, lines: list[bytes], note: bytes) -> None:
        if not self._full:
            self._full = True
            self._append(
                b"%s the log is full: of what follows, the last %d KiB are kept, and written at the end\n"
                % (note, self._tail_bytes // 1024)
            )
        self._tail.extend(lines)
        self._in_tail += sum(map(len, lines))
        while self._in_tail > self._tail_bytes:
            dropped = len(self._tail.popleft())
            self._in_tail -= dropped
            self._left_out += dropped

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
