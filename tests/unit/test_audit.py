"""Root's audit: what it holds, and that nobody can alter it unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from banger.audit import AuditBrokenError, entries, verify
from banger.contracts.audit import Head
from root_worker import audit as roots
from root_worker.audit import Audit


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return an audit of ten lines in two files."""
    for start in (0, 5):
        audit = Audit(tmp_path / "audit")  # as when root's worker is started again
        for number in range(start, start + 5):
            audit.write("ended", task="banger.root.tap", number=number)
    return tmp_path / "audit"


def test_a_chain_holds_over_files_and_restarts(directory: Path) -> None:
    verdict = verify(directory)
    assert (verdict.lines, verdict.first, verdict.last) == (10, 1, 10)
    assert [entry["number"] for entry in entries(directory)] == list(range(10))


def first_file(change: Callable[[list[bytes]], None]) -> Callable[[Path], None]:
    def tamper(directory: Path) -> None:
        file = min(directory.iterdir())
        lines = file.read_bytes().splitlines(keepends=True)
        change(lines)
        file.write_bytes(b"".join(lines))

    return tamper


TAMPERINGS: dict[str, Callable[[Path], None]] = {
    "a word changed": first_file(lambda lines: lines.__setitem__(2, lines[2].replace(b"tap", b"pat"))),
    "a line removed": first_file(lambda lines: lines.__delitem__(2)),
    "a line repeated": first_file(lambda lines: lines.insert(2, lines[2])),
    "two lines swapped": first_file(lambda lines: lines.__setitem__(slice(1, 3), lines[2:0:-1])),
    "rubbish between": first_file(lambda lines: lines.insert(3, b"rubbish\n")),
    "a file's end cut": first_file(lambda lines: lines.__delitem__(slice(3, None))),
    "a file removed in between": lambda directory: max(directory.iterdir()).write_bytes(
        max(directory.iterdir()).read_bytes().split(b"\n", 1)[1]
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_was_altered_is_found(directory: Path, tampering: str) -> None:
    TAMPERINGS[tampering](directory)
    with pytest.raises(AuditBrokenError):
        verify(directory)


def test_a_cut_at_the_very_end_is_found_by_what_root_published(directory: Path) -> None:
    newest = max(directory.iterdir())
    published = Head(10, "0" * 64)
    with pytest.raises(AuditBrokenError, match="written anew"):
        verify(directory, published)
    newest.write_bytes(b"".join(newest.read_bytes().splitlines(keepends=True)[:-2]))
    assert verify(directory).last == 8  # the lines alone do not show it
    with pytest.raises(AuditBrokenError, match="was cut"):
        verify(directory, published)


def test_a_line_that_a_power_cut_has_torn_is_none(directory: Path) -> None:
    newest = max(directory.iterdir())
    newest.write_bytes(newest.read_bytes() + b'{"seq": 11, "prev')
    Audit(directory).write("ended", number=10)
    assert verify(directory).last == 11


def test_starts_without_a_line_leave_the_chain_as_it_is(directory: Path) -> None:
    for _ in range(3):
        Audit(directory)
    Audit(directory).write("ended", number=10)
    assert verify(directory).last == 11


def test_a_first_line_that_a_power_cut_has_torn_is_none_either(directory: Path) -> None:
    Audit(directory)
    max(directory.iterdir()).write_bytes(b'{"seq": 11, "prev')
    Audit(directory).write("ended", number=10)
    assert verify(directory).last == 11


def test_of_a_flood_the_first_of_a_second_are_told_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 7.0
    monkeypatch.setattr(roots.time, "monotonic", lambda: now)
    audit = Audit(tmp_path)
    flooded = [audit.refused("forged") for _ in range(1000)]
    assert flooded.count(True) == 1000 - roots.REFUSALS_A_SECOND
    now = 8.0
    assert not audit.refused("forged")
    verdict = verify(tmp_path)
    assert verdict.refused == audit.refusals == 1001
    assert verdict.lines == roots.REFUSALS_A_SECOND + 2


def test_a_full_file_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "FILE_BYTES", 500)
    audit = Audit(tmp_path)
    for number in range(20):
        audit.write("began", number=number)
    assert len(list(tmp_path.iterdir())) > 5
    assert all(path.stat().st_size <= 500 for path in tmp_path.iterdir())
    assert verify(tmp_path).lines == 20


def test_where_no_other_file_can_be_begun_the_full_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "FILE_BYTES", 500)
    audit = Audit(tmp_path / "audit")
    (tmp_path / "audit").rename(tmp_path / "away")
    for number in range(20):
        audit.write("began", number=number)
    assert verify(tmp_path / "away").lines == 20


@pytest.mark.parametrize("line", [b"garbage", b"[]", b'{"seq": 11}', b'{"at": {}, "event": "began"}'])
def test_a_line_that_is_none_of_roots_is_shown_to_whom_reads(directory: Path, line: bytes) -> None:
    with max(directory.iterdir()).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(AuditBrokenError, match="altered") as caught:
        list(entries(directory))
    assert line.decode() in caught.value.details


def test_what_a_stranger_wrote_stays_on_its_line(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.refused('x\n{"seq": 2, "event": "ended"}\x1b[2J')
    (line,) = next(tmp_path.iterdir()).read_text().splitlines()
    assert json.loads(line)["seq"] == 1
