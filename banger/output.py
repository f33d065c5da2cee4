"""What a job's command prints, on its way from the worker to whoever follows it: a bounded stream."""

from __future__ import annotations

import base64
from typing import Any, Literal, NamedTuple

from banger.connection import FarmRedis

_MAX_CHUNKS = 2_000
_CHUNK_BYTES = 16 * 1024
_TTL_S = 3600

StreamName = Literal["stdout", "stderr"]


class Output(NamedTuple):
    """A chunk of what was printed, and on which of the two streams."""

    stream: StreamName
    data: bytes


def output_key(job: str) -> str:
    """Return the key of a job's output stream."""
    return f"banger:job:{job}:output"


def parse_output(fields: dict[str, str]) -> Output:
    """Return a stream entry as it was printed."""
    return Output("stderr" if fields["s"] == "stderr" else "stdout", base64.b64decode(fields["d"]))


class JobOutput:
    """Appends chunks of stdout and stderr; the oldest go when nobody reads them in time."""

    def __init__(self, client: FarmRedis, job: str) -> None:
        self._redis: Any = client
        self._key = output_key(job)

    def emit(self, stream: StreamName, chunk: bytes) -> None:
        """Append what was printed, in chunks of at most 16 KiB."""
        for start in range(0, len(chunk), _CHUNK_BYTES):
            data = base64.b64encode(chunk[start : start + _CHUNK_BYTES]).decode()
            self._redis.xadd(self._key, {"s": stream, "d": data}, maxlen=_MAX_CHUNKS, approximate=True)
        self._redis.expire(self._key, _TTL_S)
