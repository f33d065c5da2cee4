"""The tests in a job's tar of JUnit files: counted, whatever else is in it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from banger.batch import tested
from banger.batch.state import Tests
from banger.batch.tested import MAX_NOTES, read_tested

GOOD = b"<testsuite><testcase classname='c' time='1'/><testcase file='f' time='2'/></testsuite>"
BAD = b"<testsuite><testcase classname='c' name='x' time='0.5'><failure/></testcase></testsuite>"


def counted(tmp_path: Path, files: dict[str, bytes], cut: int | None = None) -> tested.Tested:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / "junit.tar").write_bytes(made.getvalue()[:cut])
    came = read_tested(tmp_path / "junit.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["junit.tar"]
    return came


def test_files_are_counted_together(tmp_path: Path) -> None:
    assert counted(tmp_path, {"./a.xml": GOOD, "b/c.xml": BAD}) == tested.Tested(
        Tests(tests=3, failures=1, failed=("c::x",)), {"c": 1.5, "f": 2.0}, ()
    )


def test_what_cannot_be_read_is_said_and_the_rest_counts(tmp_path: Path) -> None:
    came = counted(tmp_path, {"a.xml": GOOD, "b\x1b.xml": b"<html/>", "../out.xml": BAD})
    assert came.tests == Tests(tests=2)
    assert len(came.notes) == 2
    assert came.notes[1].startswith("junit: b?.xml: the file is no JUnit")
    assert not any("\x1b" in note or "\n" in note for note in came.notes)


def test_a_tar_that_was_cut_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    came = counted(tmp_path, {"a.xml": GOOD, "b.xml": BAD}, cut=1024 + 512 + 40)
    assert came.tests == Tests(tests=2)
    assert came.notes[0].startswith("junit: not all of it could be unpacked")


def test_notes_are_few(tmp_path: Path) -> None:
    came = counted(tmp_path, {f"{n}.xml": b"no" for n in range(30)})
    assert len(came.notes) == MAX_NOTES
    assert came.notes[-1] == "junit: 21 more files could not be read"


def test_a_file_of_many_names_is_not_parsed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "JUNIT_BOUNDS", tested.JUNIT_BOUNDS._replace(bytes=3 * len(GOOD)))
    with tarfile.open(tmp_path / "junit.tar", "w") as archive:
        member = tarfile.TarInfo("a.xml")
        member.size = len(GOOD)
        archive.addfile(member, io.BytesIO(GOOD))
        for number in range(100):
            link = tarfile.TarInfo(f"link-{number:02}.xml")
            link.type, link.linkname = tarfile.LNKTYPE, "a.xml"
            archive.addfile(link)
    came = read_tested(tmp_path / "junit.tar")
    assert came.tests is not None
    assert came.tests.tests <= 8  # of four files, for the last of them is one too many
    assert "more than" in came.notes[0]


def test_no_files_are_no_tests(tmp_path: Path) -> None:
    (tmp_path / "junit.tar").write_bytes(b"")
    assert read_tested(tmp_path / "junit.tar") == tested.Tested(None, {}, ())
