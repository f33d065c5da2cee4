"""What the keeper makes of what a VMM says."""

from __future__ import annotations

import os
from pathlib import Path

from banger.keeper.keeper import MAX_LINE_BYTES, Latest


def kept(file: Path, *pieces: bytes) -> bytes:
    """Return what is kept of metrics that come in these pieces."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        latest = Latest(fd)
        for piece in pieces:
            latest.keep(piece)
    finally:
        os.close(fd)
    return file.read_bytes()


def test_a_line_is_kept_whole_in_however_many_pieces_it_comes(tmp_path):
    assert kept(tmp_path / "metrics", b'{"a":', b" 1}", b"\n") == b'{"a": 1}\n'


def test_what_is_kept_is_the_last_line_that_has_ended(tmp_path):
    assert kept(tmp_path / "metrics", b"a longer line\none", b" two\nthr", b"ee") == b"one two\n"


def test_a_line_without_an_end_takes_no_memory(tmp_path):
    pieces = [b"x" * 65536] * 10
    assert len(kept(tmp_path / "metrics", *pieces, b"\n")) <= MAX_LINE_BYTES + 1
