"""Secrets out of a job's output, wherever the guest's writes happen to be cut.

Masked are a secret's lines, each as it is and as programs like to print it: base64 at any of its three
alignments, quoted for URLs, escaped for JSON. A guest that wants to show a secret can: this is for those
that do not.
"""

from __future__ import annotations

import base64
import json
import re
import textwrap
import urllib.parse
from collections.abc import Iterator, Sequence

MIN_SECRET = 4
"""Letters that a secret must have: shorter ones are in everything. Refused when a batch is planned."""
MASK = b"***"
_BASE64_LINES = (64, 76)  # of PEM and openssl; of base64 and MIME


class Masker:
    """One stream's masking: ``feed`` chunks as they come, ``flush`` at the end.

    What is handed back lags behind by less than the longest form of a secret, and by nothing at the end of a
    line, for no form has line ends in it. Whatever the chunks, the output is the same.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._needles = tuple({needle for secret in secrets for needle in _forms(secret)})
        self._lag = max(map(len, self._needles), default=1) - 1
        self._held = b""
        self._hidden = 0  # so many bytes of what is held are behind a mask that is out already

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream and return what of it can be shown by now."""
        if not self._needles:
            return chunk
        data = self._held + chunk
        ended_line = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        return self._release(data, max(ended_line, len(data) - self._lag, 0))

    def flush(self) -> bytes:
        """Return the rest of the stream."""
        return self._release(self._held, len(self._held))

    def _release(self, data: bytes, end: int) -> bytes:
        """Show the data up to ``end``, and hold the rest: every form that begins before is in it whole."""
        shown, at = [], self._hidden
        for start, stop in self._spans(data, end):
            if start >= at:
                shown += [data[at:start], MASK]
            at = max(at, stop)
        if at < end:
            shown.append(data[at:end])
        self._held, self._hidden = data[end:], max(0, at - end)
        return b"".join(shown)

    def _spans(self, data: bytes, end: int) -> list[tuple[int, int]]:
        """Return where forms begin before ``end``, in order; they may overlap, and all of them are to go.

        Searched for one by one: an expression of them all is slower, the more so the more there are.
        """
        spans = []
        for needle in self._needles:
            at = data.find(needle)
            while 0 <= at < end:
                spans.append((at, at + len(needle)))
                at = data.find(needle, at + 1)
        return sorted(spans)


def _forms(secret: str) -> Iterator[bytes]:
    """Yield the byte strings that give a secret away; none has a line end in it."""
    lines = secret.splitlines()
    for line in {*lines, *(line.strip() for line in lines)}:
        if len(line) < MIN_SECRET:
            continue
        raw = line.encode(errors="surrogateescape")
        yield raw
        yield from _base64_forms(raw)
        yield from _url_forms(raw)
        yield json.dumps(line)[1:-1].encode()
        yield json.dumps(line, ensure_ascii=False)[1:-1].encode(errors="surrogateescape")
    if len(lines) > 1:
        yield from _base64_forms(secret.encode(errors="surrogateescape"))


def _base64_forms(raw: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of the bytes alone or amid others, whole and wrapped as tools wrap it.

    With other bytes before it, it begins in the middle of a letter: only letters that are all its own count.
    """
    for before, shared in enumerate((0, 2, 3)):
        letters = base64.b64encode(b"\0" * before + raw)[shared : (before + len(raw)) * 8 // 6]
        for text in {letters, letters.translate(bytes.maketrans(b"+/", b"-_"))}:
            if len(text) >= MIN_SECRET:
                yield text
        if before == 0:
            for width in _BASE64_LINES:
                wrapped = textwrap.wrap(letters.decode(), width)
                yield from (line.encode() for line in wrapped if len(line) > width // 2)


def _url_forms(raw: bytes) -> Iterator[bytes]:
    for quoted in (urllib.parse.quote(raw, safe=""), urllib.parse.quote(raw), urllib.parse.quote_plus(raw)):
        yield quoted.encode()
        yield re.sub(r"%..", lambda found: found[0].lower(), quoted).encode()
