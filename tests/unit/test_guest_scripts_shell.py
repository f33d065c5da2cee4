"""A job's scripts in real shells: the machine's own, and busybox where it is installed.

Only the directory of the scripts' own files is another one: no test writes to /run.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from banger.batch import scripts
from banger.batch.scripts import (
    PLACE,
    RECEIVE_JOB,
    debug_command,
    job_script,
    list_command,
    pack_command,
    pack_names,
    parse_list,
)
from banger.contracts.errors import InvalidInputError

BUSYBOX = shutil.which("busybox")
APPLETS = ("sh", "cat", "mkdir", "printf", "find", "head", "xargs", "tar", "ls", "stat", "id", "ps", "sleep")


class Guest:
    """A directory that stands for a guest: its PATH, its /run/banger, its working directory."""

    def __init__(self, place: Path, path: str) -> None:
        self.run = place / "run-banger"
        self.work = place / "it's work"
        self._path = path

    def does(self, command: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [word.replace(PLACE, str(self.run)) for word in command]
        stdin = stdin.replace(PLACE.encode(), str(self.run).encode())
        sh = shutil.which(argv[0], path=self._path)
        assert sh
        return subprocess.run(
            [sh, *argv[1:]],
            input=stdin,
            capture_output=True,
            env={"PATH": self._path},
            timeout=30,
            check=False,
        )

    def job(
        self, *run: str, setup: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        script = job_script(str(self.work), env or {}, setup, run)
        return self.does(RECEIVE_JOB, script.encode(errors="surrogateescape"))

    def at(self) -> str:
        return (self.run / "at").read_text().strip()


@pytest.fixture(params=["the machine's", "busybox's"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Guest:
    if request.param == "the machine's":
        return Guest(tmp_path, os.defpath + ":/usr/bin:/bin")
    if BUSYBOX is None:
        pytest.skip("busybox is not installed")
    applets = tmp_path / "applets"
    applets.mkdir()
    for name in APPLETS:
        (applets / name).symlink_to(BUSYBOX)
    return Guest(tmp_path, str(applets))


def test_commands_run_in_turn_in_the_working_directory(guest: Guest) -> None:
    ended = guest.job("pwd", "cat made", setup=["echo made here > made"])
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode() == f"{guest.work}\nmade here\n"
    assert guest.at() == "run 2: cat made"


@pytest.mark.parametrize("code", [1, 42, 255])
def test_the_first_that_fails_ends_it_with_its_code(guest: Guest, code: int) -> None:
    ended = guest.job("echo never", setup=["true", f"echo here; exit {code}", "echo never"])
    assert (ended.returncode, ended.stdout) == (code, b"here\n")
    assert guest.at() == f"setup 2: echo here; exit {code}"


def test_a_command_that_a_signal_killed_ends_it_as_shells_say_it(guest: Guest) -> None:
    assert guest.job("kill -9 $$").returncode == 137


def test_a_command_of_several_lines_stops_at_the_first_that_fails(guest: Guest) -> None:
    ended = guest.job("\n  echo one\nfalse\necho two\n")
    assert (ended.returncode, ended.stdout) == (1, b"one\n")
    assert guest.at() == "run 1: echo one"


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "it's",
        '$(echo no) `no` "$HOME" \\',
        "two\nlines\n",
        "END",
        "x\nEND\ny",
        "ü€",
        "\udcff\udc80",
    ],
)
def test_any_value_arrives_as_it_is(guest: Guest, value: str) -> None:
    ended = guest.job('printf %s "$TOKEN"', env={"TOKEN": value, "AFTER": "1"})
    assert ended.stdout == value.encode(errors="surrogateescape")
    assert ended.returncode == 0


def test_the_environment_is_roots_alone_and_the_jobs_files_are_as_usual(guest: Guest) -> None:
    assert guest.job("echo > made", env={"TOKEN": "secret"}).returncode == 0
    assert {path.name: path.stat().st_mode & 0o777 for path in guest.run.iterdir()} == {
        "env": 0o600,
        "job": 0o600,
        "at": 0o600,
    }
    assert guest.run.stat().st_mode & 0o777 == 0o700
    assert (guest.work / "made").stat().st_mode & 0o777 == 0o644


def test_no_secret_stands_in_a_processs_arguments(guest: Guest) -> None:
    ended = guest.job("cat /proc/$$/cmdline /proc/$PPID/cmdline", env={"TOKEN": "very-secret"})
    assert b"sh" in ended.stdout
    assert b"very-secret" not in ended.stdout


def test_commands_read_nothing_of_the_script(guest: Guest) -> None:
    assert guest.job("cat", "echo on").stdout == b"on\n"


def test_a_working_directory_that_cannot_be_is_a_failure(guest: Guest) -> None:
    guest.work.write_text("a file")
    ended = guest.job("echo never")
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert guest.at() == "workdir"


@pytest.mark.parametrize("env", [{"A-B": ""}, {"": ""}, {"1": ""}, {"A=$(id)": ""}, {"A": "\0"}])
def test_a_variable_that_no_shell_can_have_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        job_script("/root/work", env, (), ("true",))


def test_the_label_of_a_command_is_one_short_line(guest: Guest) -> None:
    guest.job("echo \t\x1b[31m" + "x" * 500)
    assert len(guest.at()) < 140
    assert "\x1b" not in guest.at()


def test_a_debug_shell_has_the_environment_and_the_directory(guest: Guest) -> None:
    guest.job("exit 3", env={"TOKEN": "a b"})
    ended = guest.does(debug_command(str(guest.work)), b'pwd; echo "$TOKEN"; exit 4')
    assert ended.stdout.decode() == f"{guest.work}\na b\n"
    assert ended.stderr == b"The job was at: run 1: exit 3\n"
    assert ended.returncode == 4


def test_a_debug_shell_comes_even_where_nothing_is_left(guest: Guest) -> None:
    assert guest.does(debug_command(str(guest.work)), b"echo here").stdout == b"here\n"


NAMES = ("a", "b/c d", "b/-rf", "e\nf", "ü", "\udcff", "b/link", "*", "$(id)")


def tree(guest: Guest) -> None:
    (guest.work / "b/empty").mkdir(parents=True)
    for name in NAMES:
        if name == "b/link":
            (guest.work / name).symlink_to("c d")
        else:
            (guest.work / name).write_text("x")
    os.mkfifo(guest.work / "b/pipe")


def test_files_and_links_are_listed_whatever_they_are_called(guest: Guest) -> None:
    tree(guest)
    ended = guest.does(list_command(str(guest.work)))
    assert ended.returncode == 0
    assert sorted(parse_list(ended.stdout)) == sorted(NAMES)


def test_the_chosen_files_come_as_a_tar(guest: Guest) -> None:
    tree(guest)
    ended = guest.does(pack_command(str(guest.work)), pack_names(NAMES))
    assert (ended.returncode, ended.stderr) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(ended.stdout), ignore_zeros=True) as archive:
        assert sorted(archive.getnames()) == sorted(f"./{name}" for name in NAMES)


def test_very_many_files_are_packed_all(guest: Guest) -> None:
    names = [f"{number:05}-{'x' * 90}" for number in range(3000)]
    guest.work.mkdir()
    for name in names:
        (guest.work / name).touch()
    ended = guest.does(pack_command(str(guest.work)), pack_names(names))
    with tarfile.open(fileobj=io.BytesIO(ended.stdout), ignore_zeros=True) as archive:
        assert sorted(archive.getnames()) == [f"./{name}" for name in names]


def test_no_chosen_file_is_no_tar_and_no_error(guest: Guest) -> None:
    guest.work.mkdir()
    ended = guest.does(pack_command(str(guest.work)), b"")
    assert (ended.returncode, ended.stdout) == (0, b"")


def test_a_file_that_went_away_loses_only_itself(guest: Guest) -> None:
    tree(guest)
    ended = guest.does(pack_command(str(guest.work)), pack_names(["gone", "a"]))
    assert ended.returncode == 0
    assert b"gone" in ended.stderr
    with tarfile.open(fileobj=io.BytesIO(ended.stdout), ignore_zeros=True) as archive:
        assert archive.getnames() == ["./a"]


def test_a_directory_that_went_away_has_no_files(guest: Guest) -> None:
    for command in (list_command(str(guest.work)), pack_command(str(guest.work))):
        ended = guest.does(command, b"")
        assert (ended.returncode, ended.stdout) == (0, b"")


def test_a_guest_without_tar_is_an_error(tmp_path: Path) -> None:
    applets = tmp_path / "applets"
    applets.mkdir()
    for name in ("sh", "xargs"):
        (applets / name).symlink_to(shutil.which(name) or name)
    guest = Guest(tmp_path, str(applets))
    guest.work.mkdir()
    assert guest.does(pack_command(str(guest.work)), pack_names(["a"])).returncode == 127


def test_a_list_is_believed_in_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_list(b"") == ()
    assert parse_list(b"./a\0/etc/passwd\0../b\0./c/../../d\0\0./e\0./cut-o") == ("a", "e")
    monkeypatch.setattr(scripts, "MAX_LISTED", 2)
    assert parse_list(b"./a\0./b\0./c\0") == ("a", "b")
    assert parse_list(b"x" * 5000 + b"\0a\0") == ("a",)
