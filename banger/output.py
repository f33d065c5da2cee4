"""What a job's command prints, on its way from the worker to whoever follows it: a bounded stream."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from banger.connection import FarmRedis
from banger.contracts.errors import UnavailableError

_MAX_CHUNKS = 1_000  # of 16 KiB at most: 16 MiB a job, in a Redis that must not run full
_CHUNK_BYTES = 16 * 1024
_TTL_S = 900

# Both at once: a worker that is killed in between would leave a stream for ever.
_APPEND = """
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 's', ARGV[3], 'n', ARGV[4], 'd', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""

StreamName = Literal["stdout", "stderr"]


class Output(NamedTuple):
    """A chunk of what was printed, and on which of the two streams."""

    stream: StreamName
    data: bytes


def output_key(job: str) -> str:
    """Return the key of a job's output stream."""
    return f"banger:job:{job}:output"


class JobOutput:
    """Appends chunks of stdout and stderr; the oldest go when nobody reads them in time.

    Each chunk says how many bytes came before it, so that a reader knows what it has missed.
    """

    def __init__(self, client: FarmRedis, job: str) -> None:
        self._redis: Any = client
        self._key = output_key(job)
        self._sent = 0

    def emit(self, stream: StreamName, chunk: bytes) -> None:
        """Append what was printed, in chunks of at most 16 KiB.

        While Redis is away it is lost, and the reader told so: no command fails for that.
        """
        for start in range(0, len(chunk), _CHUNK_BYTES):
            data = chunk[start : start + _CHUNK_BYTES]
            entry = (stream, self._sent, base64.b64encode(data).decode())
            with suppress(UnavailableError):
                self._redis.eval(_APPEND, 1, self._key, _MAX_CHUNKS, _TTL_S, *entry)
            self._sent += len(data)


class OutputReader:
    """Makes stream entries, in order, what was printed, and says where some of it is missing."""

    def __init__(self) -> None:
        self._seen = 0

    def read(self, fields: dict[str, str]) -> Iterator[Output]:
        """Yield an entry's output, after a remark on stderr where entries before it were lost."""
        before, data = int(fields["n"]), base64.b64decode(fields["d"])
        if before > self._seen:
            lost = before - self._seen
            why = "they came faster than they were read, or Redis was away"
            remark = f"\n[banger] {lost} bytes of output are missing: {why}\n"
            yield Output("stderr", remark.encode())
        self._seen = before + len(data)
        yield Output("stderr" if fields["s"] == "stderr" else "stdout", data)
