"""What a reader makes of a job's output stream."""

from __future__ import annotations

import base64
from typing import Any, cast

from banger.connection import FarmRedis
from banger.contracts.errors import UnavailableError
from banger.output import JobOutput, Output, OutputReader


def entry(stream: str, before: int, data: bytes) -> dict[str, str]:
    return {"s": stream, "n": str(before), "d": base64.b64encode(data).decode()}


def test_what_was_printed_comes_back_stream_by_stream_byte_for_byte() -> None:
    reader = OutputReader()
    read = [*reader.read(entry("stdout", 0, b"\xff\x00")), *reader.read(entry("stderr", 2, b"err"))]
    assert read == [Output("stdout", b"\xff\x00"), Output("stderr", b"err")]


def test_what_was_lost_is_said_where_it_is_missing() -> None:
    reader = OutputReader()
    list(reader.read(entry("stdout", 0, b"1234")))
    remark, rest = reader.read(entry("stdout", 10, b"x"))
    assert remark.stream == "stderr"
    assert b"6 bytes of output are missing" in remark.data
    assert rest == Output("stdout", b"x")


class AwayAtFirst:
    """A Redis that cannot be reached when the first chunk comes."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._calls = 0

    def eval(self, *words: Any) -> None:
        self._calls += 1
        if self._calls == 1:
            raise UnavailableError("Redis cannot be reached")
        self.entries.append(dict(zip("snd", words[-3:], strict=True)))


def test_a_command_goes_on_while_redis_is_away_and_its_reader_learns_what_is_missing() -> None:
    redis = AwayAtFirst()
    output = JobOutput(cast("FarmRedis", redis), "job")
    output.emit("stdout", b"lost")
    output.emit("stdout", b"kept")
    remark, rest = OutputReader().read(redis.entries[0])
    assert b"4 bytes of output are missing" in remark.data
    assert rest == Output("stdout", b"kept")
