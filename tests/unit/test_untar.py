"""Tar streams from a hostile guest: nothing lands outside, nothing is followed, all is bounded."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from banger import untar as untar_module
from banger.contracts.errors import ToolFailedError
from banger.untar import untar

Entry = tuple[str, bytes, str]
FILE, DIRECTORY, SYMLINK, HARDLINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
ROOT: Entry = ("./tree", DIRECTORY, "")


def stream_of(*entries: Entry, mode: int = 0o644) -> io.BytesIO:
    """Return a stream of entries: name, type, and text of a file or target of a link."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, kind, text in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755 if kind == DIRECTORY else mode
            data = text.encode() if kind == FILE else b""
            member.size, member.linkname = len(data), "" if kind == FILE else text
            archive.addfile(member, io.BytesIO(data))
    made.seek(0)
    return made


def test_files_directories_and_inner_links_arrive(tmp_path: Path) -> None:
    stream = stream_of(
        ROOT,
        ("./tree/bin", DIRECTORY, ""),
        ("./tree/bin/run", FILE, "#!/bin/sh\n"),
        ("./tree/go", SYMLINK, "bin/run"),
        ("./tree/bin/up", SYMLINK, "../bin/run"),
        ("./tree/same", HARDLINK, "./tree/bin/run"),
        mode=0o4755,
    )
    assert untar(stream, "tree", tmp_path) == ()
    assert (tmp_path / "tree/go").read_text() == (tmp_path / "tree/bin/up").read_text() == "#!/bin/sh\n"
    assert (tmp_path / "tree/same").samefile(tmp_path / "tree/bin/run")
    assert (tmp_path / "tree/bin/run").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "./tree/../evil", "other", "./tree/../../evil", "treehouse", "."]
)
def test_a_name_outside_the_root_ends_it(tmp_path: Path, name: str) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ToolFailedError, match="cannot be unpacked"):
        untar(stream_of(ROOT, (name, FILE, "evil")), "tree", into)
    assert {path.name for path in tmp_path.rglob("*")} <= {"into", "tree"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../..", "../other", "inner/../../..", "a/..", "..", ""])
def test_a_link_that_may_lead_outside_is_left_out(tmp_path: Path, target: str) -> None:
    assert untar(stream_of(ROOT, ("./tree/link", SYMLINK, target)), "tree", tmp_path) == ("tree/link",)
    assert list((tmp_path / "tree").iterdir()) == []


def test_nothing_is_written_through_a_link_of_the_stream(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    stream = stream_of(ROOT, ("./tree/d", SYMLINK, "."), ("./tree/d/file", FILE, "evil"))
    with pytest.raises(ToolFailedError):
        untar(stream, "tree", tmp_path / "into")
    assert not (tmp_path / "into/tree/file").exists()


def test_a_hard_link_to_the_outside_ends_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "into").mkdir()
    with pytest.raises(ToolFailedError):
        untar(stream_of(ROOT, ("./tree/l", HARDLINK, "./tree/../../secret")), "tree", tmp_path / "into")


def test_the_same_file_twice_ends_it(tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError):
        untar(stream_of(ROOT, ("./tree/f", FILE, "1"), ("./tree/f", FILE, "2")), "tree", tmp_path)


def test_devices_and_pipes_are_left_out(tmp_path: Path) -> None:
    stream = stream_of(ROOT, ("./tree/sda", tarfile.BLKTYPE, ""), ("./tree/pipe", tarfile.FIFOTYPE, ""))
    assert untar(stream, "tree", tmp_path) == ("tree/sda", "tree/pipe")


def test_a_header_that_would_fill_memory_is_refused_by_its_size(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    with pytest.raises(ToolFailedError) as caught:
        untar(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT)), "tree", tmp_path)
    assert "extended header" in caught.value.details


@pytest.mark.parametrize(("name", "limit"), [("MAX_MEMBERS", 1), ("MAX_BYTES", 3)])
def test_more_files_or_bytes_than_allowed_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    monkeypatch.setattr(untar_module, name, limit)
    with pytest.raises(ToolFailedError, match="more than"):
        untar(stream_of(ROOT, ("./tree/f", FILE, "four")), "tree", tmp_path)


@pytest.mark.parametrize(
    "stream", [b"", b"no tar at all" * 100, stream_of(ROOT, ("./tree/f", FILE, "x" * 2000)).read()[:1500]]
)
def test_a_damaged_stream_is_one_clear_error(tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(ToolFailedError, match="cannot be unpacked"):
        untar(io.BytesIO(stream), "tree", tmp_path)
