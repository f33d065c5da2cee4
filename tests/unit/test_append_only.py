"""Where an append-only file has holes, and what fills them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banger.embedded.append_only import Hole, holes, remark


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


SET = command(b"set", b"key", b"value")
ZEROS = command(b"set", b"zeros", bytes(64))


def test_a_whole_file_has_no_holes() -> None:
    assert list(holes(SET + ZEROS + b"#TS:1628217473\r\n" + command(b"set", b"empty", b""))) == []
    assert list(holes(b"")) == []


def test_zeros_between_commands_are_holes() -> None:
    data = SET + bytes(5000) + ZEROS + bytes(2) + SET
    second = len(SET) + 5000 + len(ZEROS)
    assert list(holes(data)) == [Hole(len(SET), len(SET) + 5000), Hole(second, second + 2)]


def test_zeros_at_the_end_are_a_hole() -> None:
    assert list(holes(SET + bytes(9))) == [Hole(len(SET), len(SET) + 9)]


def test_a_remark_that_was_not_written_to_its_end_is_filled_again() -> None:
    assert list(holes(SET + b"#   " + bytes(9) + SET)) == [Hole(len(SET), len(SET) + 13)]


@pytest.mark.parametrize(
    "junk", [SET[:-4], SET[:-2] + b"xx", b"*0\r\n", b"*2\r\n+OK\r\n", b"*1\r\n$-1\r\n", b"x"]
)
def test_what_comes_after_no_command_is_not_looked_at(junk: bytes) -> None:
    assert list(holes(SET + junk + bytes(9) + SET)) == []


@given(st.lists(st.one_of(st.integers(2, 3000), st.just(SET), st.just(ZEROS))))
def test_filled_a_file_has_no_holes_and_the_same_commands(parts: list[int | bytes]) -> None:
    data = b"".join(bytes(part) if isinstance(part, int) else part for part in parts)
    filled = bytearray(data)
    for start, end in holes(data):
        filled[start:end] = remark(end - start)
    assert len(filled) == len(data)
    assert list(holes(bytes(filled))) == []
    told = [line for line in bytes(filled).splitlines(keepends=True) if not line.startswith(b"#")]
    assert b"".join(told) == b"".join(part for part in parts if isinstance(part, bytes))


@given(st.integers(2, 5000))
def test_a_remark_has_lines_that_redis_can_read(length: int) -> None:
    text = remark(length)
    assert len(text) == length
    assert all(line.startswith(b"#") and len(line) <= 1023 for line in text.splitlines(keepends=True))


def test_one_byte_is_too_short_for_a_remark() -> None:
    with pytest.raises(ValueError, match="two bytes"):
        remark(1)
