"""debugfs scripts, the parsing of what debugfs prints, and the verdict on a write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banger.contracts import ext4
from banger.contracts.errors import StageFailedError
from banger.contracts.ext4 import Directory, File, Verdict


def stat_text(kind: str = "regular", mode: int = 0o644, uid: int = 0, gid: int = 0, size: int = 3) -> str:
    """Return what debugfs 1.47.0 prints for an inode."""
    return (
        f"Inode: 13   Type: {kind}    Mode:  {mode:04o}   Flags: 0x80000\n"
        "Generation: 0    Version: 0x00000000:00000000\n"
        f"User:  {uid:4d}   Group:  {gid:4d}   Project:     0   Size: {size}\n"
        "File ACL: 0\nLinks: 1   Blockcount: 2\n"
        "Fragment:  Address: 0    Number: 0    Size: 0\n"
        " ctime: 0x6b057422:00000000 -- Tue Nov 24 11:25:22 2026\nEXTENTS:\n(0):7987\n"
    )


def echo(command: str, printed: str = "") -> bytes:
    return f"debugfs: {command}\n{printed}".encode()


class FakeDebugfs:
    """A file system of one directory level in memory, whose writes can be told to fail."""

    def __init__(self, **inodes: str) -> None:
        self.inodes = {"/": stat_text("directory", 0o755)} | {
            f"/{name}": text for name, text in inodes.items()
        }
        self.contents: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.scripts: list[str] = []
        self.features = "Filesystem features:      has_journal extent\n"

    def read(self, script: str) -> bytes:
        self.scripts.append(script)
        printed = b""
        for line in script.splitlines():
            command, _, path = line.partition(" ")
            printed += echo(line)
            if command == "features":
                printed += self.features.encode()
                continue
            printed += (
                self.inodes.get(path, "").encode() if command == "stat" else self.contents.get(path, b"")
            )
        return printed

    def write(self, contents: Sequence[bytes], script: Callable[[Sequence[str]], str]) -> bytes:
        text = script([f"/source/{number}" for number in range(len(contents))])
        self.scripts.append(text)
        for line in text.splitlines():
            match line.split():
                case ["mkdir", path]:
                    self.inodes[path] = stat_text("directory", 0o755)
                case ["write", source, path] if path not in self.broken:
                    self.contents[path] = contents[int(source.rpartition("/")[2])]
                    self.inodes[path] = stat_text("regular", size=len(self.contents[path]))
                case ["sif", path, "mode", mode] if path not in self.broken:
                    kind = "directory" if int(mode, 8) & 0o040000 else "regular"
                    self.inodes[path] = stat_text(kind, int(mode, 8) & 0o7777)
        return b"write: No space left\n" if self.broken else b""


@pytest.mark.parametrize(
    "path",
    [
        "",
        "etc",
        "/a b",
        '/a"b',
        "/a'b",
        "/a\nquit",
        "/a/../b",
        "/..",
        "/.",
        "//",
        "/a/",
        "/a\\b",
        "/\ta",
        "/a\n",
    ],
)
def test_a_path_that_would_be_another_command_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="debugfs"):
        ext4.stat_script([path])


@pytest.mark.parametrize(
    "path", ["/", "/etc/fstab", "/.ssh/authorized_keys", "/etc/ssh/sshd_config.d/99-banger.conf"]
)
def test_a_plain_path_is_taken(path: str) -> None:
    assert ext4.stat_script([path]) == f"stat {path}\n"


@given(st.text(max_size=30))
def test_no_path_makes_more_than_one_command_of_two_words(path: str) -> None:
    try:
        script = ext4.stat_script([f"/{path}"])
    except ValueError:
        return
    assert len(script.splitlines()) == 1
    assert len(script.split()) == 2


def test_the_batch_sets_type_bits_with_the_mode_and_root_as_owner() -> None:
    script = ext4.write_script(
        ["/etc"], [Directory("/etc", 0o700)], [File("/etc/x", b"", 0o600)], ["/proc/self/fd/9"]
    )
    assert script.splitlines() == [
        *("mkdir /etc", "sif /etc mode 040700", "sif /etc uid 0", "sif /etc gid 0"),
        *("rm /etc/x", "write /proc/self/fd/9 /etc/x"),
        *("sif /etc/x mode 0100600", "sif /etc/x uid 0", "sif /etc/x gid 0"),
    ]


def test_stat_output_is_parsed_and_an_absent_path_is_none() -> None:
    output = b"".join(
        [
            echo("stat /a", stat_text("symlink", 0o777, 1000, 70000, 18)),
            echo("stat /b"),
            echo("stat /c", stat_text()),
        ]
    )
    found = ext4.stats(output, ["/a", "/b", "/c"])
    assert found["/a"] is not None
    assert found["/a"][:5] == ("symlink", 0o777, 1000, 70000, 18)
    assert found["/b"] is None
    assert found["/c"] is not None


@pytest.mark.parametrize("output", [b"", b"nonsense", echo("stat /a", "Inode: what"), echo("stat /other")])
def test_output_that_is_no_stat_is_an_error_not_an_absence(output: bytes) -> None:
    with pytest.raises(StageFailedError):
        ext4.stats(output, ["/a"])


@pytest.mark.timeout(10)
@pytest.mark.parametrize("word", ["{}", "a{}", "a Mode:{}", "regular Mode: 0{}", "a Mode: 0 \nUser:{}"])
@pytest.mark.parametrize("filling", [" ", "a ", "0", "\nUser: 1 Group: 1 "])
def test_what_a_debugfs_that_was_taken_over_prints_does_not_hold_its_reader_up(
    word: str, filling: str
) -> None:
    printed = "Inode: 1 Type: " + word.format(filling * (1024 * 1024 // len(filling)))
    with pytest.raises(StageFailedError, match="no inode"):
        ext4.stats(echo("stat /a", printed), ["/a"])


@pytest.mark.parametrize("root", ["", stat_text("regular")])
def test_a_disk_without_a_root_directory_is_damaged_not_empty(root: str) -> None:
    debugfs = FakeDebugfs()
    debugfs.inodes["/"] = root
    with pytest.raises(StageFailedError, match="no root directory"):
        ext4.look(["/a"], debugfs)


def test_put_makes_parents_in_one_batch_between_two_looks() -> None:
    debugfs = FakeDebugfs()
    files = [File("/etc/banger/x", b"new", 0o755), File("/y", b"")]
    ext4.put([], files, ext4.look([file.path for file in files], debugfs), debugfs)
    assert debugfs.contents == {"/etc/banger/x": b"new", "/y": b""}
    assert len(debugfs.scripts) == 3
    assert debugfs.scripts[1].splitlines()[:2] == ["mkdir /etc", "mkdir /etc/banger"]


def test_put_refuses_a_parent_that_is_no_directory_before_it_writes() -> None:
    debugfs = FakeDebugfs(etc=stat_text("symlink", 0o777))
    before = ext4.look(["/etc/x"], debugfs)
    with pytest.raises(StageFailedError, match="/etc in the guest's file system is a symlink"):
        ext4.put([], [File("/etc/x", b"")], before, debugfs)
    assert len(debugfs.scripts) == 1


def test_put_refuses_a_directory_in_a_files_place_before_it_writes() -> None:
    debugfs = FakeDebugfs(a=stat_text("directory", 0o755))
    before = ext4.look(["/a"], debugfs)
    with pytest.raises(StageFailedError, match="/a in the guest's file system is a directory"):
        ext4.put([], [File("/a", b"")], before, debugfs)
    assert len(debugfs.scripts) == 1


def test_put_fails_with_the_verdict_and_the_last_words_when_a_write_did_nothing() -> None:
    debugfs = FakeDebugfs(a=stat_text())
    debugfs.contents["/a"] = b"old"
    debugfs.broken = {"/a"}
    with pytest.raises(StageFailedError) as caught:
        ext4.put([], [File("/a", b"new"), File("/b", b"new")], ext4.look(["/a", "/b"], debugfs), debugfs)
    assert "/a: nothing was changed" in caught.value.details
    assert "/b" not in caught.value.details
    assert "No space left" in caught.value.details


@pytest.mark.parametrize(
    ("printed", "verdict"),
    [
        (echo("stat /a", stat_text()) + echo("cat /a", "new"), Verdict.APPLIED),
        (echo("stat /a", stat_text(size=9)) + echo("cat /a", "old"), Verdict.INTACT),
        (echo("stat /a") + echo("cat /a"), Verdict.DAMAGED),
        (echo("stat /a", stat_text()) + echo("cat /a", "ne"), Verdict.DAMAGED),
        (echo("stat /a", stat_text()) + echo("cat /a", "new\n"), Verdict.DAMAGED),
        (echo("stat /a", stat_text(mode=0o600)) + echo("cat /a", "new"), Verdict.DAMAGED),
        (echo("stat /a", stat_text(uid=1)) + echo("cat /a", "new"), Verdict.DAMAGED),
        (echo("stat /a", stat_text(gid=1)) + echo("cat /a", "new"), Verdict.DAMAGED),
        (echo("stat /a", stat_text("symlink")) + echo("cat /a", "new"), Verdict.DAMAGED),
        (echo("stat /a", stat_text()), Verdict.UNKNOWN),
        (echo("stat /a", "what?") + echo("cat /a", "new"), Verdict.UNKNOWN),
        (b"", Verdict.UNKNOWN),
    ],
)
def test_the_verdict_is_applied_only_when_all_is_as_asked(printed: bytes, verdict: Verdict) -> None:
    before = ext4.stats(echo("stat /a", stat_text(size=9)), ["/a"])
    assert ext4.judge([], [File("/a", b"new")], before, printed) == {"/a": verdict}


def test_a_link_text_that_imitates_debugfs_does_not_pass_for_success() -> None:
    forged = stat_text("symlink") + 'Fast link dest: "\n' + echo("cat /a", "new").decode() + '"\n'
    printed = echo("stat /a", forged) + echo("cat /a", "old")
    verdicts = ext4.judge([], [File("/a", b"new")], {"/a": None}, printed)
    assert verdicts["/a"] is not Verdict.APPLIED


def test_a_survey_looks_and_reads_in_one_session() -> None:
    debugfs = FakeDebugfs(a=stat_text(size=3))
    debugfs.contents["/a"] = b"abc"
    found = ext4.survey(["/a", "/d"], "/a", 100, debugfs)
    assert found is not None
    assert found.content == b"abc"
    assert found.inodes.keys() == {"/", "/a", "/d"}
    absent = ext4.survey(["/a", "/d"], "/d", 100, debugfs)
    assert absent is not None
    assert absent.content is None
    assert len(debugfs.scripts) == 2


@pytest.mark.parametrize("features", ["", "Filesystem features:      has_journal needs_recovery extent\n"])
def test_nothing_is_made_of_a_file_system_before_its_journal_is_replayed(features: str) -> None:
    debugfs = FakeDebugfs()
    debugfs.features = features
    debugfs.inodes["/"] = "half of it"
    assert ext4.survey(["/a"], "/a", 100, debugfs) is None


@pytest.mark.parametrize(
    "inode", [stat_text(size=1 << 40), stat_text("directory", 0o755), stat_text("symlink"), stat_text(size=4)]
)
def test_a_file_that_is_none_or_too_large_or_shorter_than_it_says_is_not_taken(inode: str) -> None:
    debugfs = FakeDebugfs(a=inode)
    debugfs.contents["/a"] = b"abc"
    with pytest.raises(StageFailedError, match="/a in the guest's file system"):
        ext4.survey(["/a"], "/a", 100, debugfs)
