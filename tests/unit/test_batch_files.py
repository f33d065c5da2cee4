"""A hostile guest's tar on the front: nothing lands outside, all is bounded, what is whole is kept."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest

from banger.batch.files import ARTIFACT_BOUNDS, UnpackedFiles, job_directory, unpack_files
from banger.untar import Bounds

FILE, DIRECTORY, SYMLINK, HARDLINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
Entry = tuple[str, bytes, str]


def tar_of(*entries: Entry, mode: int = 0o644, pax: dict[str, str] | None = None) -> bytes:
    """Return a tar of entries: name, type, and text of a file or target of a link."""
    made = io.BytesIO()
    form = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, kind, text in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.pax_headers = kind, mode, pax or {}
            data = text.encode() if kind == FILE else b""
            member.size, member.linkname = len(data), "" if kind == FILE else text
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def unpacked(tmp_path: Path, data: bytes, bounds: Bounds = ARTIFACT_BOUNDS) -> UnpackedFiles:
    """Unpack into ``out/job``; nothing else may be there then, nor beside it."""
    (tmp_path / "tar").write_bytes(data)
    (tmp_path / "out").mkdir(exist_ok=True)
    came = unpack_files(tmp_path / "tar", tmp_path / "out/job", bounds)
    assert {path.name for path in tmp_path.iterdir()} == {"tar", "out"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["job"]
    return came


def test_files_arrive_with_the_directories_that_their_names_imply(tmp_path: Path) -> None:
    data = tar_of(
        ("./a", FILE, "1"), ("b/c/d", FILE, "2"), ("./b/link", SYMLINK, "c/d"), ("./b", DIRECTORY, "")
    )
    assert unpacked(tmp_path, data).names == ("a", "b/c/d")
    assert (tmp_path / "out/job/b/link").read_text() == "2"


def test_several_tars_in_a_row_are_one(tmp_path: Path) -> None:
    came = unpacked(tmp_path, tar_of(("./a", FILE, "1")) + tar_of(("./b", FILE, "2")))
    assert came == UnpackedFiles(("a", "b"), ())


def test_an_empty_tar_is_no_files(tmp_path: Path) -> None:
    assert unpacked(tmp_path, b"") == UnpackedFiles((), ())
    assert unpacked(tmp_path, tar_of()) == UnpackedFiles((), ())


def test_an_earlier_fetch_is_replaced(tmp_path: Path) -> None:
    unpacked(tmp_path, tar_of(("./old", FILE, "")))
    assert unpacked(tmp_path, tar_of(("./new", FILE, ""))).names == ("new",)
    assert not (tmp_path / "out/job/old").exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "../out/evil", ".."])
def test_a_name_outside_ends_it_and_what_came_before_is_kept(tmp_path: Path, name: str) -> None:
    came = unpacked(tmp_path, tar_of(("./before", FILE, ""), (name, FILE, "evil"), ("./after", FILE, "")))
    assert came.names == ("before",)
    assert "outside" in came.notes[0]


@pytest.mark.parametrize("target", ["/etc/passwd", "../..", "../../out", "a/../..", "..", "", "a/.."])
def test_a_link_that_may_lead_out_is_left_out(tmp_path: Path, target: str) -> None:
    came = unpacked(tmp_path, tar_of(("link", SYMLINK, target), ("after", FILE, "")))
    assert came.names == ("after",)
    assert "'link'" in came.notes[0]
    assert not (tmp_path / "out/job/link").is_symlink()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    came = unpacked(tmp_path, tar_of(("d", SYMLINK, "e"), ("e", DIRECTORY, ""), ("d/file", FILE, "x")))
    assert came.names == ("d/file",)
    assert not (tmp_path / "out/job/d").is_symlink()
    assert "'d'" in came.notes[0]


def test_links_that_chase_each_other_harm_nobody(tmp_path: Path) -> None:
    came = unpacked(tmp_path, tar_of(("a", SYMLINK, "b"), ("b", SYMLINK, "a"), ("c", SYMLINK, "c")))
    assert came.names == ()


def test_a_link_that_nobody_can_follow_harms_nobody(tmp_path: Path) -> None:
    assert unpacked(tmp_path, tar_of(("a", FILE, ""), ("l", SYMLINK, "m" * 300))).names == ("a",)


@pytest.mark.parametrize("target", ["../tar", "/etc/passwd", "../../out", "missing"])
def test_a_hard_link_to_the_outside_ends_it(tmp_path: Path, target: str) -> None:
    came = unpacked(tmp_path, tar_of(("a", FILE, ""), ("l", HARDLINK, target)))
    assert came.names == ("a",)
    assert came.notes


def test_a_hard_link_through_a_link_reaches_nothing(tmp_path: Path) -> None:
    came = unpacked(tmp_path, tar_of(("d", SYMLINK, "."), ("l", HARDLINK, "d/../../tar")))
    assert came.names == ()


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"?"])
def test_special_files_are_left_out(tmp_path: Path, kind: bytes) -> None:
    came = unpacked(tmp_path, tar_of(("dev", kind, ""), ("a", FILE, "")))
    assert "a" in came.names
    assert kind == b"?" or "dev" in came.notes[0]
    assert all(path.is_file() for path in (tmp_path / "out/job").iterdir())


@pytest.mark.parametrize("mode", [0o7777, 0o000, 0o4000])
def test_no_mode_gives_rights_nor_takes_the_owners(tmp_path: Path, mode: int) -> None:
    unpacked(tmp_path, tar_of(("d", DIRECTORY, ""), ("d/f", FILE, "x"), mode=mode))
    for path, own in ((tmp_path / "out/job/d", 0o700), (tmp_path / "out/job/d/f", 0o600)):
        assert path.stat().st_mode & 0o7000 == 0
        assert path.stat().st_mode & own == own


def test_what_is_whole_before_a_cut_is_kept(tmp_path: Path) -> None:
    data = tar_of(("./a", FILE, "1" * 600), ("./b", FILE, "2" * 6000))
    for end in (512 + 100, 2048, 2048 + 512, 2048 + 700):
        came = unpacked(tmp_path, data[:end])
        assert came.names == (() if end < 1536 else ("a",)), end
        assert len(came.notes) == 1, end
        assert came.notes[0].startswith("not all of it could be unpacked")


def test_noise_is_a_note(tmp_path: Path) -> None:
    came = unpacked(tmp_path, random.Random(1).randbytes(100_000))
    assert (came.names, len(came.notes)) == ((), 1)


@pytest.mark.parametrize("bounds", [Bounds(members=3), Bounds(bytes=3), Bounds(depth=1)])
def test_what_is_too_much_ends_it(tmp_path: Path, bounds: Bounds) -> None:
    came = unpacked(tmp_path, tar_of(("a", FILE, "12"), ("b/c/d", FILE, "34"), ("e", FILE, "")), bounds)
    assert came.names == ("a",)
    assert "more than" in came.notes[0] or "directories" in came.notes[0]


def test_the_same_name_twice_ends_it_and_the_first_stays(tmp_path: Path) -> None:
    assert unpacked(tmp_path, tar_of(("a", FILE, "1"), ("a", FILE, "2"))).names == ("a",)
    assert (tmp_path / "out/job/a").read_text() == "1"


@pytest.mark.parametrize(
    "pax",
    [
        {"size": "-1024"},
        {"size": str(1 << 62)},
        {"mtime": "nan"},
        {"mtime": "1e300"},
        {"path": "../evil"},
        {"path": "/evil"},
        {"GNU.sparse.map": "0,1,99999999999,1", "GNU.sparse.size": "99999999999"},
        {"GNU.sparse.size": "99999999999"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999999"},
        {"GNU.sparse.name": "../evil", "GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
    ],
)
def test_an_extended_header_can_do_no_more(tmp_path: Path, pax: dict[str, str]) -> None:
    came = unpacked(tmp_path, tar_of(("a", FILE, "x" * 3000), pax=pax))
    assert came.notes
    assert sum(path.stat().st_blocks * 512 for path in (tmp_path / "out/job").rglob("*")) < 20_000


def test_extended_headers_without_end_are_no_way_in(tmp_path: Path) -> None:
    header = tar_of(("a", FILE, ""), pax={"comment": "x"})[:1024]
    assert unpacked(tmp_path, header * 5000).names == ()
    header = tarfile.TarInfo("x").create_pax_global_header({"comment": "x" * 10_000})
    assert "no guest" in unpacked(tmp_path, header * 100).notes[0]


def test_a_sparse_file_of_the_old_kind_ends_it(tmp_path: Path) -> None:
    member = tarfile.TarInfo("sparse")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # more of the map follows, and does not
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    assert unpacked(tmp_path, bytes(header)).notes


def test_damage_anywhere_is_never_worse_than_a_note(tmp_path: Path) -> None:
    whole = tar_of(
        ("a/b", FILE, "x" * 600), ("l", SYMLINK, "a/b"), ("h", HARDLINK, "a/b"), pax={"path": "p/q"}
    )
    whole += tar_of(("n" * 200, FILE, "y"), ("s", DIRECTORY, ""))
    dice = random.Random(7)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 30)):
            data[dice.randrange(len(data))] = dice.choice(
                (0, 0x30, 0x2E, 0x2F, 0x80, 0xFF, dice.randrange(256))
            )
        for at in range(0, len(data), 512):  # headers that are believed: their sums are put right
            if dice.random() < 0.8 and any(data[at : at + 512]):
                data[at + 148 : at + 156] = b" " * 8
                data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        unpacked(tmp_path, bytes(data))


def test_directories_of_a_batch_sort() -> None:
    assert [job_directory(7, 10), job_directory(7, 2000), job_directory(1999, 2000)] == [
        "job-007",
        "job-0007",
        "job-1999",
    ]
