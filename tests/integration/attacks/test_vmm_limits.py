"""A VMM that takes all it can get: as much as its VM's size allows, where the host has the controllers."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import UID, VM, undo_request
from mountns import private_mounts
from vmm_host import eventually, log_of, pids, request, run, with_tap

from banger.contracts.vmm_limits import LIMIT_FILES, MIB, SWAP_FILES, Controller, limits
from root_worker.host import RootHost
from root_worker.stages import launch
from root_worker.vmm import cgroups, processes

pytestmark = pytest.mark.integration

PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")
FORKS = """
import os, sys, time
made = 0
try:
    while made < 60:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except OSError as error:
    print(error.strerror)
print("made", made, flush=True)
time.sleep(60)
"""
FORKS_FOR_EVER = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
TAKES_MEMORY = "hog = b'x' * (96 << 20); print('took it', flush=True)"
TAKES_TIME = """
import time
end = time.monotonic() + 1
while time.monotonic() < end:
    pass
print("used", time.process_time(), flush=True)
"""


@pytest.fixture
def host(launching_host: RootHost) -> Iterator[RootHost]:
    """The host without a log, a process or a cgroup of the VM's."""
    yield launching_host
    processes.end(UID, "KILL")
    cgroups.remove(launching_host.paths, VM)
    for path in launching_host.paths.vm(VM).glob("serial.log*"):
        path.unlink()


def need(host: RootHost, *controllers: Controller) -> None:
    wanted = limits(1, 64)
    with cgroups.limited(host.paths, VM, {name: wanted[name] for name in controllers}) as doors:
        if missing := set(controllers) - set(doors.limits):
            pytest.skip(f"this host has no cgroup controller for {', '.join(sorted(missing))}")


def said(host: RootHost, word: str) -> str:
    eventually(lambda: word in log_of(host))
    return log_of(host)


def groups_of(pid: int | None) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def test_both_processes_are_in_the_vms_groups_and_the_answer_says_which(host):
    answer = launch.do(request(vcpus=2, memory_mib=128), with_tap(host))
    for controller, limit in limits(2, 128).items():
        with contextlib.suppress(FileNotFoundError):
            group, version = cgroups.group_of(host.paths, controller, VM)
            assert controller in answer["limits"]
            assert (group / LIMIT_FILES[controller][version - 1]).read_text().split()[0] == str(limit)
            assert {int(pid) for pid in (group / "cgroup.procs").read_text().split()} == set(pids())
            assert all(f"/{host.paths.cgroups}/{VM}\n" in groups_of(pid) for pid in pids())
    launch.undo(undo_request(), host)
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{host.paths.cgroups}/{VM}"))


def test_its_memory_is_not_swapped_out(host):
    need(host, "memory")
    launch.do(request(vcpus=1, memory_mib=128), with_tap(host))
    group, version = cgroups.group_of(host.paths, "memory", VM)
    file = group / SWAP_FILES[version - 1]
    if not file.exists():
        pytest.skip("this kernel does not count what is swapped out")
    assert int(file.read_text()) == (limits(1, 128)["memory"], 0)[version - 1]


def test_where_no_cgroup_can_be_made_there_is_no_limit_and_nothing_to_undo(host):
    with private_mounts():
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, kind, *_ = line.split()
            if kind in ("cgroup", "cgroup2"):
                subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        with cgroups.limited(host.paths, VM, limits(1, 64)) as doors:
            assert doors == ((), ())
        cgroups.remove(host.paths, VM)


def test_a_fork_bomb_is_bounded(host):
    need(host, "pids")
    run(host, *PYTHON, FORKS)
    assert said(host, "made").startswith("made 60"), "without a limit"
    processes.end(UID, "KILL")
    host.paths.serial_log(VM).write_text("")
    run(host, *PYTHON, FORKS, limits={"pids": 20})
    text = said(host, "made")
    assert "Resource temporarily unavailable" in text
    assert int(text.split()[-1]) <= 18, "beside the keeper and the program"


def test_what_forks_for_ever_is_killed_whole(host):
    need(host, "pids")
    run(host, *PYTHON, FORKS_FOR_EVER, limits={"pids": 100})
    group, _ = cgroups.group_of(host.paths, "pids", VM)
    eventually(lambda: int((group / "pids.current").read_text()) == 100)
    processes.end(UID, "KILL")
    assert pids() == (None, None)
    cgroups.remove(host.paths, VM)


def test_a_memory_hog_is_killed_and_says_so(host):
    need(host, "memory")
    run(host, *PYTHON, TAKES_MEMORY)
    assert "exited with status 0" in said(host, "[banger] the VMM")
    host.paths.serial_log(VM).write_text("")
    run(host, *PYTHON, TAKES_MEMORY, limits={"memory": 64 * MIB})
    assert "killed by signal 9" in said(host, "[banger] the VMM")


def test_processor_time_is_bounded(host):
    need(host, "cpu")
    run(host, *PYTHON, TAKES_TIME, limits={"cpu": 20_000})
    assert float(said(host, "used").split()[1]) < 0.4, "a fifth of a processor, for a second"
