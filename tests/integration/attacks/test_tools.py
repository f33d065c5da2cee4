"""The programs that root starts: who could have put them there, and what one that was taken over can do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from farm_box import eventually

from banger.contracts import sandbox
from banger.contracts.errors import ToolFailedError
from root_worker import shell

pytestmark = pytest.mark.integration

UID = 1_900_000_000 + os.getpid()  # nobody else's
PYTHON = str(Path(sys.executable).resolve())


class Tool(NamedTuple):
    """A tool that a guest's disk has taken over."""

    sandbox: tuple[str, ...]

    def __call__(
        self,
        code: str,
        *,
        deadline_s: float = 5,
        within: tuple[str, ...] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> shell.Completed:
        """Let it do what ``code`` says."""
        return shell.run(
            (PYTHON, "-I", "-S", "-c", f"import os, socket, time\n{code}"),
            deadline_s=deadline_s,
            sandbox=self.sandbox if within is None else within,
            good=range(-64, 256),
            pass_fds=pass_fds,
        )


@pytest.fixture(scope="module")
def hostile(tools_root: Path) -> Tool:
    return Tool(sandbox.sandboxed(UID, shell.tool, tools_root, shell.MAX_OUTPUT_BYTES))


@pytest.fixture(autouse=True)
def nothing_of_the_tool_stays() -> Iterator[None]:
    yield
    eventually(lambda: not processes(), deadline_s=5)


def processes() -> list[str]:
    """Return the commands that run as the tool's uid; what waits for init to notice its end is none."""
    listed = subprocess.run(["ps", "-o", "stat=,args=", "-u", str(UID)], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


# --- what root starts -----------------------------------------------------------------------------


@pytest.fixture
def trusted(tmp_path: Path) -> Iterator[Path]:
    """A program in a directory above which root alone can write."""
    home = Path("/usr/local/lib") / f"banger-test-{os.getpid()}"
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "tool"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    yield program
    program.unlink(missing_ok=True)
    (home / "bin").rmdir()
    home.rmdir()


def test_a_program_that_root_alone_can_write_is_started(trusted: Path) -> None:
    assert shell.run((str(trusted),), deadline_s=5).stdout == b"ran\n"


@pytest.mark.parametrize("mode", [0o775, 0o757])
@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_program_that_another_could_replace_is_refused(trusted: Path, mode: int, above: int) -> None:
    place = (trusted, *trusted.parents)[above]
    place.chmod(mode)
    subprocess.run([trusted], check=True)  # it would run
    with pytest.raises(ToolFailedError, match="root alone can write"):
        shell.run((str(trusted),), deadline_s=5)


def test_what_would_confine_a_program_is_looked_at_too(trusted: Path) -> None:
    trusted.chmod(0o757)
    with pytest.raises(ToolFailedError, match="root alone can write"):
        shell.run(("/bin/true",), sandbox=(str(trusted),), deadline_s=5)


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_program_of_another_owner_is_refused(trusted: Path, above: int) -> None:
    os.chown((trusted, *trusted.parents)[above], UID, UID)
    with pytest.raises(ToolFailedError, match="root alone can write"):
        shell.run((str(trusted),), deadline_s=5)


def test_a_link_to_a_good_program_in_a_bad_place_is_refused(trusted: Path, tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o1777)  # sticky, as /tmp is: others may not replace the link, and yet it may be theirs
    (place / "tool").symlink_to(trusted)
    with pytest.raises(ToolFailedError, match="root alone can write"):
        shell.run((str(place / "tool"),), deadline_s=5)


def test_a_link_to_a_bad_program_in_a_good_place_is_refused(trusted: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    trusted.rename(bad)
    tmp_path.chmod(0o777)
    trusted.symlink_to(bad)
    with pytest.raises(ToolFailedError, match="root alone can write"):
        shell.run((str(trusted),), deadline_s=5)


@pytest.mark.parametrize("name", ["/usr", "/dev/null", "/nonexistent/tool"])
def test_what_is_no_program_is_refused(name: str) -> None:
    with pytest.raises(ToolFailedError):
        shell.run((name,), deadline_s=5)


# --- what a tool that was taken over can do ---------------------------------------------------------


def test_it_has_no_privilege_and_cannot_gain_any(hostile: Tool) -> None:
    status = hostile("print(open('/proc/self/status').read())").stdout.decode()
    held = {key: value.split() for key, value in (line.split(":", 1) for line in status.split("\n") if line)}
    assert held["Uid"] == held["Gid"] == [str(UID)] * 4
    assert held["Groups"] == []
    assert {held[f"Cap{which}"][0] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert held["NoNewPrivs"] == ["1"]


def test_it_reaches_no_network(hostile: Tool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"socket.create_connection(('127.0.0.1', {port}), 2); print('reached')"
        assert hostile(code, within=()).stdout == b"reached\n"
        assert b"Network is unreachable" in hostile(code).stderr


def test_it_shares_no_memory_segments_with_others(hostile: Tool) -> None:
    made = subprocess.run(["ipcmk", "-M", "4096", "-p", "0666"], capture_output=True, check=True, text=True)
    segment = made.stdout.split()[-1]
    try:
        assert segment in Path("/proc/sysvipc/shm").read_text()
        seen = hostile("print(open('/proc/sysvipc/shm').read())").stdout.decode()
        assert seen.count("\n") <= 2  # a heading
    finally:
        subprocess.run(["ipcrm", "-m", segment], check=True)


def test_it_signals_no_process_of_others_even_of_its_own_uid(hostile: Tool) -> None:
    other = subprocess.Popen(["/usr/bin/sleep", "60"], user=UID, group=UID, extra_groups=[])
    try:
        hostile(f"os.kill({other.pid}, 9)")
        hostile("os.kill(-1, 9)")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_it_cannot_hold_more_memory_than_its_bound(hostile: Tool) -> None:
    code = "data = bytearray(1 << 30); data[::4096] = b'x' * len(data[::4096]); print('held')"
    assert hostile(code, within=()).stdout == b"held\n"
    assert b"MemoryError" in hostile(code).stderr


def test_it_cannot_fork_without_end(hostile: Tool) -> None:
    code = (
        "made = 0\n"
        "try:\n"
        "    while made < 500:\n"
        "        if not os.fork():\n"
        "            time.sleep(60)\n"
        "        made += 1\n"
        "except BlockingIOError:\n"
        "    pass\n"
        "print(made)"
    )
    assert int(hostile(code).stdout) < 64


CHILD = "if not os.fork():\n    os.setsid()\n    os.closerange(0, 3)\n    time.sleep(60)\ntime.sleep(0.1)\n"


def test_what_left_its_group_would_outlive_it(hostile: Tool) -> None:
    hostile(CHILD, within=sandbox.unprivileged(UID, shell.tool))
    assert len(processes()) == 1
    subprocess.run(["pkill", "-KILL", "-u", str(UID)], check=True)  # this test's own uid


@pytest.mark.parametrize("end", ["", "time.sleep(60)"])
def test_nothing_it_starts_outlives_it(hostile: Tool, end: str) -> None:
    started = time.monotonic()
    if end:
        with pytest.raises(ToolFailedError, match="did not end within 1 s"):
            hostile(CHILD + end, deadline_s=1)
    else:
        assert hostile(CHILD).code == 0
    assert time.monotonic() - started < 4


def test_it_cannot_spin_for_longer_than_its_processor_time(hostile: Tool) -> None:
    limits = subprocess.run(
        [*hostile.sandbox, "/bin/sh", "-c", "ulimit -t; ulimit -c"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert limits.stdout.split() == [str(sandbox.LIMITS["cpu"]), "0"]
    short = tuple("--cpu=1" if word.startswith("--cpu=") else word for word in hostile.sandbox)
    assert hostile("while True: pass", within=short).code != 0


@pytest.mark.parametrize("stream", [1, 2])
def test_its_output_is_bounded(hostile: Tool, stream: int) -> None:
    code = f"while True: os.write({stream}, bytes(65536))"
    said = hostile(code)
    assert said.code != 0
    assert max(len(said.stdout), len(said.stderr)) <= shell.MAX_OUTPUT_BYTES


def test_its_output_cannot_be_moved_or_resized_under_root(hostile: Tool) -> None:
    code = "os.lseek(1, 1 << 40, 0); os.write(1, b'x')"
    assert hostile(code).stdout.strip(b"\0") == b""
    assert hostile("os.write(1, b'x' * 10); os.ftruncate(1, 0)").stdout == b"x" * 10


def test_it_writes_no_file_above_its_bound(hostile: Tool, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    fd = os.open(disk, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        hostile(f"while True: os.write({fd}, bytes(65536))", pass_fds=(fd,))
    finally:
        os.close(fd)
    assert disk.stat().st_size == shell.MAX_OUTPUT_BYTES


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/1/environ", "/var/lib", "/tmp", "/home"])
def test_it_sees_nothing_of_the_host(hostile: Tool, path: str) -> None:
    code = f"print(os.stat({path!r}).st_ino)"
    outside = hostile(code, within=()).stdout
    assert outside
    assert hostile(code).stdout != outside


def test_it_has_nowhere_to_write(hostile: Tool) -> None:
    code = "print([p for n in ['', *os.listdir('/')] for p in ['/' + n] if os.access(p, os.W_OK)])"
    assert hostile(code).stdout == b"[]\n"
    assert b"/tmp" in hostile(code, within=sandbox.unprivileged(UID, shell.tool)).stdout
