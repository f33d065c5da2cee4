"""What a reader makes of a job's output stream."""

from __future__ import annotations

import base64

from banger.output import Output, OutputReader


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
