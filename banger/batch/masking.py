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
        needles = sorted({needle for secret in secrets for needle in _forms(secret)}, key=len, reverse=True)
        forms = b"|".join(map(re.escape, needles))
        # A lookahead finds the longest form at every place: forms may overlap, and all of them are to go.
        # That is slow, and most output has no secret in it: the first of them is looked for without.
        self._first = re.compile(forms)
        self._places = re.compile(b"(?=(%s))" % forms) if needles else None
        self._lag = len(needles[0]) - 1 if needles else 0
        self._held = b""
        self._hidden = 0  # so many bytes of what is held are behind a mask that is out already

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream and return what of it can be shown by now."""
        if self._places is None:
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
        for start, stop in self._secret_spans(data, end):
            if start >= at:
                shown += [data[at:start], MASK]
            at = max(at, stop)
        if at < end:
            shown.append(data[at:end])
        self._held, self._hidden = data[end:], max(0, at - end)
        return b"".join(shown)

    def _secret_spans(self, data: bytes, end: int) -> Iterator[tuple[int, int]]:
        if self._places is None or not (first := self._first.search(data)):
            return
        for found in self._places.finditer(data, first.start()):
            if found.start() >= end:
                return
            yield found.start(), found.end(1)


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
