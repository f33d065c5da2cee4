"""What a job's command prints, on its way to whoever follows it: a bounded stream in Redis."""

from __future__ import annotations

import base64
from typing import Literal

from banger.connection import FarmRedis

_MAX_CHUNKS = 2_000
_CHUNK_BYTES = 16 * 1024
_TTL_S = 3600


def output_key(job: str) -> str:
    """Return the key of a job's output stream."""
    return f"banger:job:{job}:output"


class JobOutput:
    """Appends chunks of stdout and stderr; the oldest go when nobody reads them in time."""

    def __init__(self, client: FarmRedis, job: str) -> None:
        self._redis = client
        self._key = output_key(job)

    def emit(self, stream: Literal["stdout", "stderr"], chunk: bytes) -> None:
        """Append what was printed, in chunks of at most 16 KiB."""
        for start in range(0, len(chunk), _CHUNK_BYTES):
            data = base64.b64encode(chunk[start : start + _CHUNK_BYTES]).decode()
            self._redis.xadd(self._key, {"s": stream, "d": data}, maxlen=_MAX_CHUNKS, approximate=True)
        self._redis.expire(self._key, _TTL_S)
