"""The keeper with programs that misbehave in place of a VMM."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from disks import UID, VM
from vmm_host import MIB, eventually, log_of, pids, run

from banger.contracts.errors import ToolFailedError
from root_worker.host import RootHost
from root_worker.vmm import processes

pytestmark = pytest.mark.integration


@pytest.fixture
def host(launching_host: RootHost) -> Iterator[RootHost]:
    """The host without a log or a process."""
    yield launching_host
    processes.end(UID, "KILL")
    for path in launching_host.paths.vm(VM).glob("serial.log*"):
        path.unlink()


def size(host: RootHost) -> int:
    newer = host.paths.serial_log(VM)
    return newer.stat().st_size + newer.with_name("serial.log.1").stat().st_size


def test_a_flood_stays_within_the_limit_and_keeps_the_newest(host):
    run(host, "/usr/bin/seq", "1", "1000000")  # 6.9 MB
    largest = 0
    while pids() != (None, None):
        largest = max(largest, size(host))
    assert largest <= MIB
    newer = host.paths.serial_log(VM)
    text = newer.with_name("serial.log.1").read_text() + newer.read_text()
    body, _, last = text.rstrip("\n").rpartition("\n")
    assert last == "[banger] the VMM exited with status 0"
    numbers = [int(line) for line in body.split("\n")[1:] if line]
    assert numbers[-1] == 1_000_000
    assert numbers == list(range(numbers[0], 1_000_001)), "nothing is lost in the middle"
    assert len(text) > MIB // 2 - 65536


def test_a_flood_does_not_end_while_the_limit_is_kept(host):
    vmm = run(host, "/usr/bin/yes")
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert size(host) <= MIB
    assert pids()[0] == vmm


def test_the_keeper_ignores_the_signals_that_end_a_session(host):
    run(host, "/usr/bin/sleep", "60")
    before = pids()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(before[1], name)
    time.sleep(0.05)
    assert pids() == before


def test_the_program_heeds_the_signals_that_the_keeper_ignores(host):
    os.kill(run(host, "/usr/bin/sleep", "60"), signal.SIGTERM)
    eventually(lambda: log_of(host).endswith("[banger] the VMM was killed by signal 15\n"))


def test_the_program_outlives_its_keeper_and_is_found_all_the_same(host):
    vmm = run(host, "/usr/bin/sleep", "60")
    os.kill(pids()[1], signal.SIGKILL)
    eventually(lambda: pids() == (vmm, None))
    processes.end(UID, "TERM")
    assert pids() == (None, None)


def test_the_log_of_an_earlier_start_is_continued(host):
    for word in ("first", "second"):
        run(host, "/usr/bin/echo", word)
        eventually(lambda: pids() == (None, None))
    assert log_of(host).index("first") < log_of(host).index("second")


def test_without_the_vmms_root_directory_nothing_starts(host, tmp_path):
    elsewhere = host._replace(policy=host.policy.model_copy(update={"run_dir": tmp_path}))
    with pytest.raises(ToolFailedError, match="unshare ended"):
        run(elsewhere, "/usr/bin/true")


# --- time to live --------------------------------------------------------------------------------


def test_the_keeper_ends_the_program_when_its_time_to_live_is_over(host):
    began = time.monotonic()
    run(host, "/usr/bin/sleep", "60", lives_s=0.3)
    eventually(lambda: pids() == (None, None))
    assert time.monotonic() - began >= 0.3
    assert log_of(host) == (
        "\n[banger] the time to live is over: signal 15 to the VMM\n"
        "\n[banger] the VMM was killed by signal 15\n"
    )


def test_a_program_that_heeds_no_signal_is_killed_five_seconds_later(host):
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    began = time.monotonic()
    run(host, "/usr/bin/python3", "-c", program, lives_s=0.5)
    eventually(lambda: pids() == (None, None))
    assert 5.5 <= time.monotonic() - began < 8
    assert log_of(host).endswith("[banger] the VMM was killed by signal 9\n")


@pytest.mark.parametrize(
    "argv",
    [
        ("/usr/bin/python3", "-c", "import os, time; os.closerange(0, 3); time.sleep(60)"),
        ("/usr/bin/yes",),
    ],
    ids=["closes its console", "floods its console"],
)
def test_no_console_keeps_a_program_alive_beyond_its_time(host, argv):
    run(host, *argv, lives_s=0.5)
    eventually(lambda: pids() == (None, None))
    assert log_of(host).endswith("[banger] the VMM was killed by signal 15\n")


def test_a_program_that_ends_before_its_time_is_over_is_not_waited_for(host):
    run(host, "/usr/bin/echo", "done", lives_s=3600)
    eventually(lambda: pids() == (None, None))
    assert log_of(host) == "done\n\n[banger] the VMM exited with status 0\n"


# --- files ---------------------------------------------------------------------------------------


def test_the_program_can_write_all_of_its_largest_file_and_not_one_byte_more(host, tmp_path):
    disk = tmp_path / "disk.img"
    disk.touch()
    os.truncate(disk, 3 * MIB)
    fd = os.open(disk, os.O_RDWR)
    program = (
        f"import os; fd, size = {fd}, {3 * MIB}; print(os.pwrite(fd, b'xy', size - 2))\n"
        "for grow in (lambda: os.pwrite(fd, b'x', size), lambda: os.ftruncate(fd, size + 1)):\n"
        "    try: grow()\n"
        "    except OSError as error: print(error.strerror)"
    )
    try:
        run(host, "/usr/bin/python3", "-c", program, fds=(fd,))
        eventually(lambda: pids() == (None, None))
    finally:
        os.close(fd)
    assert log_of(host).splitlines()[:3] == ["2", "File too large", "File too large"]
    assert disk.stat().st_size == 3 * MIB
