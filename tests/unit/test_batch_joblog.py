"""A job's log: lines with times, whatever bytes come, masked and bounded."""

from __future__ import annotations

import itertools
import os
import resource
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banger.batch import joblog
from banger.batch.joblog import MAX_LINE_BYTES, JobLog, LogLine, read_lines

AT = datetime(2026, 11, 28, 16, 31, 5, 123456, tzinfo=UTC)


def written(path: Path, *chunks: bytes, secrets: tuple[str, ...] = (), max_bytes: int = 1 << 20) -> list[str]:
    """Return the texts of the lines that stdout's chunks became."""
    with JobLog(path, secrets, max_bytes, now=lambda: AT) as log:
        for chunk in chunks:
            log.emit("stdout", chunk)
    return [line.text for line in read_lines(path.read_bytes())]


def test_a_line_has_its_time_and_its_stream(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with JobLog(path, (), 1 << 20, now=lambda: AT) as log:
        log.emit("stdout", b"text\n")
        log.emit("stderr", b"warning\n")
        log.note("ended")
    assert path.read_text() == (
        "2026-11-28T16:31:05.123Z O text\n"
        "2026-11-28T16:31:05.123Z E warning\n"
        "2026-11-28T16:31:05.123Z N ended\n"
    )
    at = AT.replace(microsecond=123000)
    assert [*read_lines(path.read_bytes())] == [
        LogLine(at, "stdout", "text"),
        LogLine(at, "stderr", "warning"),
        LogLine(at, "note", "ended"),
    ]


def test_times_are_utc_whatever_the_clocks_zone(tmp_path: Path) -> None:
    clock = datetime.fromisoformat("2026-11-28T17:31:05+01:00")
    with JobLog(tmp_path / "log", (), 1 << 20, now=lambda: clock) as log:
        log.note("x")
    assert (tmp_path / "log").read_text().startswith("2026-11-28T16:31:05.000Z")


def test_a_line_is_in_the_file_as_soon_as_it_is_whole(tmp_path: Path) -> None:
    log = JobLog(tmp_path / "log", ("secret-that-is-long",), 1 << 20)
    log.emit("stdout", b"one\ntw")
    log.emit("stderr", b"err\n")
    assert [line.text for line in read_lines((tmp_path / "log").read_bytes())] == ["one", "err"]
    log.emit("stdout", b"o")
    log.close()
    log.close()
    assert [line.text for line in read_lines((tmp_path / "log").read_bytes())] == ["one", "err", "two"]


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ((b"\xff\xfe t\xc3\xbcr\n",), ["�� tür"]),
        ((b"t\xc3", b"\xbcr\n"), ["tür"]),
        ((b"\x1b[1;31mred\x1b[0m\n",), ["\x1b[1;31mred\x1b[0m"]),
        ((b"\x1b[2J\x1b[Hclear\x1b[?25l\n",), ["clear"]),
        ((b"\x1b]0;title\x07shell\x1b]8;;http://x\x1b\\link\n",), ["shelllink"]),
        ((b"\x1b(Bascii\x1bM\x1b\n",), ["ascii"]),
        ((b"\x1b]0;no end\n",), ["]0;no end"]),
        ((b"a\x00\x07\x08\x7f\xc2\x9bb\tc\n",), ["ab\tc"]),
        ((b"a\xe2\x80\xa8b\n",), ["ab"]),
        ((b"dos\r\nunix\n",), ["dos", "unix"]),
        ((b"dos\r", b"\nunix\n"), ["dos", "unix"]),
        ((b"10%\r20%\r", b"30%\n"), ["10%", "20%", "30%"]),
        ((b"\n\n",), ["", ""]),
        ((b"no end",), ["no end"]),
        ((), []),
    ],
)
def test_what_lines_become(tmp_path: Path, chunks: tuple[bytes, ...], lines: list[str]) -> None:
    assert written(tmp_path / "log", *chunks) == lines


def test_a_long_line_comes_in_pieces_between_characters(tmp_path: Path) -> None:
    text = "x" + "ü€" * 20_000
    lines = written(tmp_path / "log", *(text.encode()[at : at + 1000] for at in range(0, 100_001, 1000)))
    assert "".join(lines) == text
    assert len(lines) == 7
    assert max(len(line.encode()) for line in lines) <= MAX_LINE_BYTES
    assert "".join(written(tmp_path / "log", text.encode() + b"\nz\n")) == text + "z"


def test_secrets_are_masked_across_chunks_and_pieces_of_a_line(tmp_path: Path) -> None:
    before = b"x" * (MAX_LINE_BYTES - 3)
    lines = written(tmp_path / "log", before + b"hun", b"ter2", b" \n", secrets=("hunter2",))
    assert "".join(lines) == before.decode() + "*** "


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_the_log_is_the_same_however_the_output_is_cut(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut"
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = written(path, *(data[a:b] for a, b in itertools.pairwise(edges)), secrets=("0000",))
    assert lines == written(path, data, secrets=("0000",))
    assert not any(ord(letter) < 32 and letter not in "\t\x1b" for line in lines for letter in line)


def test_of_too_much_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    chunks = [b"".join(b"line %d\n" % number for number in range(at, at + 10)) for at in range(0, 5000, 10)]
    lines = written(tmp_path / "log", *chunks, max_bytes=16384)
    size = (tmp_path / "log").stat().st_size
    assert 15_000 < size < 16_384 + 250
    full = next(number for number, line in enumerate(lines) if "the log is full" in line)
    assert lines[:full] == [f"line {number}" for number in range(full)]
    assert lines[full + 1].endswith("bytes of the log were left out here")
    left_out = int(lines[full + 1].split()[0])
    tail = lines[full + 2 :]
    assert tail == [f"line {number}" for number in range(5000 - len(tail), 5000)]
    line_bytes = len("2026-11-28T16:31:05.123Z O line 1234\n")
    assert left_out == sum(
        line_bytes - (n < 1000) - (n < 100) - (n < 10) for n in range(full, 5000 - len(tail))
    )


def test_what_fits_in_head_and_tail_together_is_kept_whole(tmp_path: Path) -> None:
    lines = written(tmp_path / "log", *(b"line %d\n" % number for number in range(110)), max_bytes=4096)
    assert [line for line in lines if line.startswith("line")] == [f"line {number}" for number in range(110)]
    assert len(lines) == 111


def test_a_flood_costs_neither_memory_nor_disk(tmp_path: Path) -> None:
    chunk = (b"a line of some output as tests print it\n" * 1000)[:32768]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with JobLog(tmp_path / "log", ("hunter2",), 4 << 20) as log:
        for _ in range(1000):
            log.emit("stdout", chunk)
        log.emit("stderr", b"y" * (4 << 20))
    assert time.process_time() - began < 30
    assert (tmp_path / "log").stat().st_size < (4 << 20) + 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_log_is_begun_anew_and_no_link_is_followed(tmp_path: Path) -> None:
    assert written(tmp_path / "log", b"first\n") == ["first"]
    assert written(tmp_path / "log", b"second\n") == ["second"]
    (tmp_path / "link").symlink_to("log")
    with pytest.raises(OSError, match="symbolic link"):
        JobLog(tmp_path / "link", (), 1 << 20)


def test_the_file_is_closed_even_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = JobLog(tmp_path / "log", (), 1 << 20)
    log.emit("stdout", b"x")

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            log.close()


def test_a_piece_of_a_log_gives_its_whole_lines(tmp_path: Path) -> None:
    odd = b"05.123Z O cut\n2026-99-99T99:99:99.999Z O never\n\xff\n"
    data = odd + b"2026-11-28T16:31:05.123Z O whole\n2026-11-28T16:31:06.123Z O cu"
    assert [*read_lines(data)] == [LogLine(AT.replace(microsecond=123000), "stdout", "whole")]
    assert [*read_lines(b"")] == []


def test_notes_have_bounds_too(tmp_path: Path) -> None:
    with JobLog(tmp_path / "log", (), 1024, now=lambda: AT + timedelta(0)) as log:
        for _ in range(1000):
            log.note("again")
    assert (tmp_path / "log").stat().st_size < 1024 + 300
    assert joblog.TAIL_BYTES == 1 << 20
