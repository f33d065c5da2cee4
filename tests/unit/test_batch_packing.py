"""The upload: what is packed and what is left out, always the same bytes, and nothing from elsewhere."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from banger.batch import packing, upload_tree
from banger.batch.ignoring import Ignored
from banger.batch.packing import pack
from banger.contracts.errors import InvalidInputError


def make(directory: Path, *names: str) -> None:
    """Make files and, where a name ends in /, directories."""
    for name in names:
        path = directory / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(f"{name}\n")


def members(directory: Path, *paths: str) -> dict[str, tarfile.TarInfo]:
    packed = io.BytesIO()
    pack(paths or (".",), directory, packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        return {member.name: member for member in archive.getmembers()}


def why_not(directory: Path, *paths: str) -> str:
    packed = io.BytesIO()
    with pytest.raises(InvalidInputError) as caught:
        pack(paths or (".",), directory, packed)
    assert not packed.getvalue()
    return str(caught.value)


def test_a_tree_keeps_its_paths_modes_and_times(tmp_path: Path):
    make(tmp_path, "src/a.py", "src/run", "empty/", "x" * 120)
    (tmp_path / "src/run").chmod(0o4755)
    os.utime(tmp_path / "src/a.py", (1_000_000_000.9, 1_000_000_000.9))
    found = members(tmp_path)
    assert [*found] == ["empty", "src", "src/a.py", "src/run", "x" * 120]
    assert (found["src/run"].mode, found["src/a.py"].mtime) == (0o755, 1_000_000_000)
    assert {(member.uid, member.gid, member.uname, member.gname) for member in found.values()} == {
        (0, 0, "root", "root")
    }


def test_the_same_files_are_the_same_bytes(tmp_path: Path):
    make(tmp_path, "b", "a/c", "a/b", "a.b")
    first, second = io.BytesIO(), io.BytesIO()
    info = pack(["."], tmp_path, first)
    assert pack(["b", "a/", "./a.b", "a/c", "."], tmp_path, second) == info
    assert first.getvalue() == second.getvalue()
    assert (info.files, info.bytes) == (5, len(first.getvalue()))
    assert info.sha256 == hashlib.sha256(first.getvalue()).hexdigest()


def test_a_path_comes_with_the_directories_above_it(tmp_path: Path):
    make(tmp_path, "a/b/c", "a/b/d", "a/e")
    (tmp_path / "a").chmod(0o750)
    found = members(tmp_path, "a/b/c")
    assert [*found] == ["a", "a/b", "a/b/c"]
    assert found["a"].mode == 0o750


def test_nothing_is_an_empty_tar(tmp_path: Path):
    assert members(tmp_path) == {}


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a\x00b"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str):
    assert "not a path below the plan's directory" in why_not(tmp_path, path)


def test_a_path_that_is_not_there_is_named(tmp_path: Path):
    make(tmp_path, "file")
    assert "none cannot be uploaded: No such file" in why_not(tmp_path, "none")
    assert "file/x cannot be uploaded: file is not a directory" in why_not(tmp_path, "file/x")


def test_git_s_directory_goes_only_where_it_is_named(tmp_path: Path):
    make(tmp_path, ".git/config", "sub/.git/config", "sub/a", ".gitignore", "tree/.git")
    assert [*members(tmp_path)] == [".gitignore", "sub", "sub/a", "tree"]
    assert [*members(tmp_path, "sub", ".git")] == [".git", ".git/config", "sub", "sub/a"]


def test_links_that_stay_inside_stay_links(tmp_path: Path):
    make(tmp_path, "a/file", "b/")
    (tmp_path / "b/up").symlink_to("../a/file")
    (tmp_path / "dir").symlink_to("a")
    (tmp_path / "nowhere").symlink_to("a/none")
    (tmp_path / "self").symlink_to("self")
    found = members(tmp_path)
    assert {name: member.linkname for name, member in found.items() if member.issym()} == {
        "b/up": "../a/file",
        "dir": "a",
        "nowhere": "a/none",
        "self": "self",
    }
    assert "dir/file" not in found


def test_links_that_lead_out_are_named(tmp_path: Path):
    inside = tmp_path / "inside"
    make(tmp_path, "inside/a/b/", "outside")
    (inside / "absolute").symlink_to("/etc/passwd")
    (inside / "into-itself").symlink_to(inside / "a")
    (inside / "up").symlink_to("../outside")
    (inside / "deep").symlink_to("a/b")
    (inside / "through").symlink_to("up/x")
    (inside / "a/b/climb").symlink_to("../../../outside")
    (inside / "trick").symlink_to("deep/../../../outside")
    refused = why_not(inside).splitlines()[1:-1]
    assert [line.partition(":")[0] for line in refused] == [
        "a/b/climb", "absolute", "into-itself", "through", "trick", "up",
    ]  # fmt: skip
    assert "absolute: is a symlink that leads out, to /etc/passwd" in refused


def test_a_path_through_a_link_is_refused(tmp_path: Path):
    make(tmp_path, "a/file")
    (tmp_path / "link").symlink_to("a")
    assert "link is not a directory" in why_not(tmp_path, "link/file")


def test_the_plan_s_directory_may_be_reached_by_a_link(tmp_path: Path):
    make(tmp_path, "real/a")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/to-a").symlink_to("a")
    assert [*members(tmp_path / "link")] == ["a", "to-a"]


def test_special_files_are_named(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "sock"))
        refused = why_not(tmp_path)
    assert "pipe: is neither a file, a directory nor a symlink" in refused
    assert "sock: is neither" in refused
    (tmp_path / ".bangerignore").write_text("pipe\nsock\n")
    assert [*members(tmp_path)] == [".bangerignore"]


def test_what_is_ignored_is_left_out_and_deeper_files_win(tmp_path: Path):
    make(
        tmp_path,
        "a.log",
        "sub/b.log",
        "sub/keep.log",
        "build/x",
        "src/build",
        "sub/deep/only.txt",
        "sub/x.txt",
    )
    (tmp_path / ".bangerignore").write_text("# logs\n*.log\nbuild/\n/sub/x.txt\n")
    (tmp_path / "sub/.bangerignore").write_text("!keep.log\n/deep/\n")
    assert [*members(tmp_path)] == [
        ".bangerignore", "src", "src/build", "sub", "sub/.bangerignore", "sub/keep.log",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["build", "build/x", "build/deep/y"])
def test_a_path_that_is_ignored_is_an_error(tmp_path: Path, path: str):
    make(tmp_path, "build/x", "build/deep/y")
    (tmp_path / ".bangerignore").write_text("build/\n")
    assert f"{path} is to be uploaded, and .bangerignore leaves build out" in why_not(tmp_path, path)


def test_a_bad_ignore_file_is_named(tmp_path: Path):
    file = tmp_path / ".bangerignore"
    file.mkdir()
    assert ".bangerignore is not a regular file" in why_not(tmp_path)
    file.rmdir()
    file.symlink_to("/etc/passwd")
    assert ".bangerignore cannot be read" in why_not(tmp_path)
    file.unlink()
    file.write_bytes(b"x" * (256 * 1024 + 1))
    assert ".bangerignore is larger than 256 KiB" in why_not(tmp_path)


def test_too_much_says_what_is_biggest(tmp_path: Path):
    make(tmp_path, "small", "data/models/a", "data/models/b")
    for name in ("a", "b"):
        os.truncate(tmp_path / "data/models" / name, 200 * 1024 * 1024)
    refused = why_not(tmp_path)
    assert "400 MiB in 5 files and directories; 256 MiB and 50000 is the most" in refused
    assert "/data/models/  400.0 MiB in 2 files" in refused.splitlines()[2]
    assert ".bangerignore" in refused
    (tmp_path / ".bangerignore").write_text("/data/models/\n")
    assert "small" in members(tmp_path)


def test_too_many_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(
        tmp_path,
        "big",
        *(f"node_modules/m{n}/f" for n in range(3)),
        *(f"node_modules/left/{n}" for n in range(6)),
    )
    monkeypatch.setattr(upload_tree, "MAX_UPLOAD_FILES", 10)
    assert "/node_modules/left/  0.0 MiB in 6 files" in why_not(tmp_path).splitlines()[2]
    monkeypatch.setattr(upload_tree, "_MAX_SEEN", 11)
    assert "12 files and directories" in why_not(tmp_path)


def test_a_file_that_changes_meanwhile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path, "a")

    def grow(*_: object) -> None:
        (tmp_path / "a").write_text("more than there was")

    monkeypatch.setattr(packing, "refuse_too_much", grow)
    with pytest.raises(InvalidInputError, match="a cannot be uploaded: it changed"):
        pack(["."], tmp_path, io.BytesIO())


def test_names_may_be_any_bytes(tmp_path: Path):
    (tmp_path / "a b\n\udcff").write_text("x")
    assert [*members(tmp_path)] == ["a b\n\udcff"]


def test_only_what_is_above_is_asked(tmp_path: Path):
    (tmp_path / ".bangerignore").write_text("a/\n")
    ignored = Ignored(tmp_path)
    assert ignored.has("a", is_directory=True)
    assert not ignored.has("a", is_directory=False)
    assert ignored.first_of("b/c", is_directory=False) is None
