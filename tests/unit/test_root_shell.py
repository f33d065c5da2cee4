"""Root's door to other programs: what it starts, what it refuses, and that nothing outlives it."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from banger.contracts.errors import ToolFailedError
from banger.contracts.sandbox import sandboxed
from root_worker import shell

SH = "/bin/sh"


def _runs(pid: int) -> bool:
    """Tell whether the process exists and is no zombie (nobody may be there to reap an orphan)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_returns_the_code_and_both_streams() -> None:
    completed = shell.run((SH, "-c", "echo out; echo err >&2; exit 3"), deadline_s=5, good=(3,))
    assert completed == shell.Completed(3, b"out\n", b"err\n")


def test_an_exit_code_that_is_not_good_is_an_error_with_the_last_words() -> None:
    with pytest.raises(ToolFailedError) as caught:
        shell.run((SH, "-c", "echo no space >&2; exit 4"), deadline_s=5)
    assert caught.value.brief == "sh ended with 4"
    assert caught.value.details.endswith("no space")


def test_stdin_is_empty_unless_bytes_are_given() -> None:
    assert shell.run((shell.tool("cat"),), deadline_s=5).stdout == b""
    data = b"x" * 300_000
    assert shell.run((shell.tool("cat"),), deadline_s=5, stdin=data).stdout == data


def test_the_environment_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/tmp/evil.so")
    printed = shell.run((shell.tool("env"),), deadline_s=5).stdout.decode().split()
    assert dict(line.split("=", 1) for line in printed) == shell.ENVIRONMENT


def test_output_above_the_bound_fails_in_the_program() -> None:
    with pytest.raises(ToolFailedError, match="head ended with 1"):
        shell.run((shell.tool("head"), "-c", "5000000", "/dev/zero"), deadline_s=5, max_output=1000)


def test_the_deadline_kills_the_whole_group() -> None:
    started = time.monotonic()
    with pytest.raises(ToolFailedError, match=r"within 0\.2 s"):
        shell.run((SH, "-c", "sleep 60 & sleep 60"), deadline_s=0.2)
    assert time.monotonic() - started < 5


def test_a_program_that_ignores_signals_is_killed_with_its_children_at_the_deadline(tmp_path: Path) -> None:
    deaf = f"trap '' TERM INT HUP; sleep 60 & echo $! >{tmp_path}/pid; while :; do sleep 60; done"
    with pytest.raises(ToolFailedError, match=r"within 0\.2 s"):
        shell.run((SH, "-c", deaf), deadline_s=0.2)
    pid, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 5
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_left_behind_in_the_group_does_not_outlive_the_call() -> None:
    pid = int(shell.run((SH, "-c", "sleep 60 >/dev/null & echo $!"), deadline_s=5).stdout)
    deadline = time.monotonic() + 5
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_passed_descriptors_keep_their_number() -> None:
    fd = os.memfd_create("passed")
    os.write(fd, b"hello")
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        assert (
            shell.run((SH, "-c", f"cat /proc/self/fd/{fd}"), deadline_s=5, pass_fds=(fd,)).stdout == b"hello"
        )
    finally:
        os.close(fd)


def test_a_relative_program_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute"):
        shell.run(("cat",), deadline_s=5)


def test_a_missing_tool_names_itself_and_the_way_out() -> None:
    with pytest.raises(ToolFailedError, match="no-such-tool is not installed"):
        shell.tool("no-such-tool")


def test_the_log_line_can_be_pasted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "root_worker.shell")
    shell.run((SH, "-c", "exit 0"), deadline_s=5)
    assert "/bin/sh -c 'exit 0' -> 0" in caplog.text


def test_a_sandbox_for_root_is_refused() -> None:
    with pytest.raises(ValueError, match="unprivileged"):
        sandboxed(0, shell.tool, Path("/"), None)
