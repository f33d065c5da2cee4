"""The unprivileged door to other programs, with programs that every machine has."""

from __future__ import annotations

import os
import time

import pytest

from banger import shell
from banger.contracts.errors import ToolFailedError

SH = "/bin/sh"


def test_a_program_reads_its_input_and_both_streams_come_back():
    done = shell.run((SH, "-c", "cat; echo said >&2; exit 3"), deadline_s=5, good=(3,), stdin=b"asked")
    assert done == (3, b"asked", b"said\n")


def test_input_larger_than_a_pipe_reaches_a_program_that_ignores_it():
    assert shell.run((SH, "-c", "echo done"), deadline_s=5, stdin=b"x" * 1_000_000).stdout == b"done\n"


def test_output_is_bounded_and_the_rest_is_thrown_away():
    done = shell.run((SH, "-c", "head -c 3000000 /dev/zero; echo end >&2"), deadline_s=5, max_output=1000)
    assert (len(done.stdout), done.stderr) == (1000, b"end\n")


def test_a_bad_exit_code_is_an_error_with_the_program_and_its_words():
    with pytest.raises(ToolFailedError, match="sh ended with 7") as failure:
        shell.run((SH, "-c", "echo why >&2; exit 7"), deadline_s=5)
    assert "why" in failure.value.details


def test_the_deadline_kills_the_whole_group(tmp_path):
    with pytest.raises(ToolFailedError, match=r"sh did not end within 0\.2 s"):
        shell.run((SH, "-c", f"sleep 60 & echo $! >{tmp_path}/pid; wait"), deadline_s=0.2)
    assert_ends(int((tmp_path / "pid").read_text()))


def test_a_program_that_ignores_signals_is_killed_with_its_children_at_the_deadline(tmp_path):
    deaf = f"trap '' TERM INT HUP; sleep 60 & echo $! >{tmp_path}/pid; while :; do sleep 60; done"
    started = time.monotonic()
    with pytest.raises(ToolFailedError, match=r"sh did not end within 0\.2 s"):
        shell.run((SH, "-c", deaf), deadline_s=0.2)
    assert time.monotonic() - started < 5
    assert_ends(int((tmp_path / "pid").read_text()))


def test_a_child_that_holds_the_pipes_does_not_hold_us_and_ends_too():
    started = time.monotonic()
    pid = int(shell.run((SH, "-c", "sleep 60 & echo $!"), deadline_s=30).stdout)
    assert time.monotonic() - started < 30
    assert_ends(pid)


def test_a_program_without_an_absolute_path_is_refused():
    with pytest.raises(ValueError, match="absolute"):
        shell.run(("sh", "-c", "true"), deadline_s=5)


def assert_ends(pid: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        os.sched_yield()
    pytest.fail(f"process {pid} still runs")
