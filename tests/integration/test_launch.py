"""The launch stage with a real QEMU and a kernel of a few bytes, each test in a network of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import SLOT, UID, VM, undo_request
from tiny_kernel import tiny_kernel
from vmm_host import (
    GREETING,
    KERNEL,
    eventually,
    install_kernel,
    log_of,
    open_files,
    pids,
    request,
    status_of,
    vmm_host,
    with_tap,
)

from banger.contracts import qemu
from banger.contracts.errors import PolicyError, StageFailedError, StaleGenerationError
from banger.contracts.names import HostPaths
from banger.contracts.requests import AdmitRequest, KillRequest
from root_worker.host import RootHost, root_host
from root_worker.ops import dm_snapshot
from root_worker.stages import admit, launch
from root_worker.vmm import processes
from root_worker.vmm.jail import listen_qmp, locked

pytestmark = pytest.mark.integration


@pytest.fixture
def host() -> Iterator[RootHost]:
    """A host with an admitted VM, its disks and its tap."""
    with vmm_host() as made:
        yield with_tap(made)


def kill_request(name: str) -> KillRequest:
    return KillRequest.model_validate({"vm_id": VM, "generation": 1, "signal": name})


# --- what runs -----------------------------------------------------------------------------------


def test_the_vmm_runs_as_its_uid_without_privileges_and_outside_the_workers_session(host):
    answer = launch.do(request(), host)

    pid = pids()[0]
    assert (answer["pid"], answer["accelerator"]) == (pid, "tcg")
    status = status_of(pid)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(UID)}
    assert status["Groups"] == ""
    assert {int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert os.getsid(pid) == pid
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    eventually(lambda: GREETING in log_of(host))


def test_a_vmm_whose_disks_are_throttled_runs(host):
    slow = request().model_copy(update={"disk_rate_mib_s": 10, "disk_ops_s": 100})
    launch.do(slow, host)
    eventually(lambda: GREETING in log_of(host))


def test_the_keeper_has_no_privileges_and_holds_nothing_but_the_log(host):
    launch.do(request(), host)

    keeper = pids()[1]
    status = status_of(keeper)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(UID)}
    assert {int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    held = open_files(keeper)
    log = str(host.paths.serial_log(VM))
    assert sorted(name for name in held if not name.startswith("pipe:")) == [
        *[str(host.paths.vmm_root / "dev/null")] * 3,
        log,
        f"{log}.1",
        "anon_inode:[pidfd]",  # the VMM's
    ]
    assert int(status["VmRSS"].split()[0]) < 16 * 1024


def test_the_vmm_inherits_its_drives_tap_and_socket_and_nothing_else(host):
    launch.do(request(), host)

    inherited = set(open_files(pids()[0]))
    devices = {"/dev/net/tun", str(host.paths.vmm_root / "dev/null")}
    disks = {str(host.paths.overlay(VM)), str(host.paths.work_disk(VM))}
    assert {name for name in inherited if name.startswith("/")} == devices | disks


def test_a_system_disk_may_be_a_block_device(host, monkeypatch):
    made = subprocess.run(
        ["losetup", "--find", "--show", host.paths.overlay(VM)], capture_output=True, check=True, text=True
    )
    device = Path(made.stdout.strip())
    try:
        monkeypatch.setattr(dm_snapshot, "path", lambda _vm_id: device)
        host.registry.update(VM, disk_backend="dm-snapshot")
        launch.do(request(), host)
        assert str(device) in open_files(pids()[0])
        eventually(lambda: GREETING in log_of(host))
        launch.undo(undo_request(), host)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_the_files_belong_to_whom_they_should(host):
    launch.do(request(), host)

    home = host.paths.jail(VM)
    assert (home.stat().st_uid, home.stat().st_mode & 0o7777) == (0, 0o711)
    socket = (home / "qmp.sock").stat()
    assert (socket.st_uid, socket.st_mode & 0o7777) == (0, 0o600)
    log = host.paths.serial_log(VM).stat()
    assert (log.st_uid, log.st_mode & 0o7777) == (UID, 0o640)


def test_launching_is_quick(host):
    # A bound that catches a sleep or a poll; what it takes is the benchmark's to say.
    started = time.monotonic()
    launch.do(request(), host)
    assert time.monotonic() - started < 2


# --- once, and fenced ----------------------------------------------------------------------------


def test_launching_twice_is_one_vmm(host):
    first = launch.do(request(), host)
    assert launch.do(request(), host) == first
    assert pids()[0] == first["pid"]


def test_a_vmm_of_an_earlier_start_is_not_taken_for_this_one(host):
    first = launch.do(request(), host)
    with pytest.raises(StageFailedError, match="earlier start"):
        launch.do(request(generation=2), host)
    assert pids()[0] == first["pid"]


def test_a_request_of_an_earlier_start_is_refused(host):
    host.registry.admit(VM, 2)
    with pytest.raises(StaleGenerationError):
        launch.do(request(), host)
    with pytest.raises(StaleGenerationError):
        launch.undo(undo_request(), host)


def test_the_vm_starts_again_after_its_guest_has_ended(host):
    install_kernel(host, tiny_kernel(GREETING, end="reset"))
    first = launch.do(request(), host)
    eventually(lambda: pids() == (None, None))
    assert launch.do(request(), host)["pid"] != first["pid"]


# --- the end -------------------------------------------------------------------------------------


def test_undo_before_launch_and_twice_leaves_nothing(host):
    launch.undo(undo_request(), host)
    launch.undo(undo_request(), host)
    assert list(host.paths.jails.iterdir()) == []


def test_undo_after_half_a_launch_removes_the_jail(host):
    with locked(host.paths, VM) as jail:
        listen_qmp(jail).close()
    launch.undo(undo_request(), host)
    assert list(host.paths.jails.iterdir()) == []


def test_undo_kills_the_vmm_and_its_keeper_and_removes_the_jail(host):
    launch.do(request(), host)
    launch.undo(undo_request(), host)
    assert pids() == (None, None)
    assert list(host.paths.jails.iterdir()) == []
    entry = host.registry.get(VM)
    assert entry is not None
    assert (entry.launched, entry.accelerator, entry.limits) == (None, None, ())
    assert log_of(host).endswith("[banger] the VMM was killed by signal 9\n")
    launch.undo(undo_request(), host)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_gentle_signal_lets_the_vmm_end_by_itself(host, name):
    launch.do(request(), host)
    launch.undo(kill_request(name), host)
    assert log_of(host).endswith("[banger] the VMM exited with status 0\n")


def test_a_vmm_that_does_not_heed_a_gentle_signal_is_killed(host, monkeypatch):
    monkeypatch.setattr(processes, "SIGNAL_DEADLINE_S", 0.1)
    os.kill(launch.do(request(), host)["pid"], signal.SIGSTOP)
    launch.undo(kill_request("TERM"), host)
    assert pids() == (None, None)


def test_the_exit_status_is_the_logs_last_line(host):
    install_kernel(host, tiny_kernel(GREETING, end="reset"))
    launch.do(request(), host)
    eventually(lambda: log_of(host).endswith("[banger] the VMM exited with status 0\n"))


def test_a_vm_is_not_forgotten_while_it_runs(host):
    launch.do(request(), host)
    with pytest.raises(StageFailedError, match="still runs"):
        admit.undo(undo_request(), host)
    launch.undo(undo_request(), host)
    admit.undo(undo_request(), host)
    assert host.registry.get(VM) is None
    admit.undo(undo_request(), host)
    assert host.registry.get(VM) is None


def test_admitting_twice_is_once(host):
    for _ in range(2):
        admit.do(AdmitRequest(vm_id=VM, generation=2, slot=SLOT), host)
    entry = host.registry.get(VM)
    assert entry is not None
    assert (entry.generation, entry.slot) == (2, SLOT)


# --- failure -------------------------------------------------------------------------------------


def test_a_vmm_that_dies_at_once_fails_the_stage_with_its_own_words(host, monkeypatch):
    monkeypatch.setattr(qemu, "MACHINE", "no-such-machine")
    started = time.monotonic()
    with pytest.raises(StageFailedError) as caught:
        launch.do(request(), host)
    assert time.monotonic() - started < 2
    assert "unsupported machine type" in caught.value.details
    assert "exited with status 1" in caught.value.details


def test_a_vmm_that_cannot_be_started_says_why(host, monkeypatch):
    monkeypatch.setattr(qemu, "BINARY", Path("/usr/bin/no-such-vmm"))
    with pytest.raises(StageFailedError) as caught:
        launch.do(request(), host)
    assert "/usr/bin/no-such-vmm" in caught.value.details


def test_a_kernel_that_the_vmm_cannot_load_fails_the_stage(host):
    install_kernel(host, b"no kernel at all" * 1000)
    with pytest.raises(StageFailedError) as caught:
        launch.do(request(), host)
    assert "kernel too old" in caught.value.details


def test_a_missing_kernel_is_named(host):
    shutil.rmtree(host.paths.kernel(KERNEL))
    with pytest.raises(StageFailedError) as caught:
        launch.do(request(), host)
    assert KERNEL in caught.value.details


def test_a_log_that_is_a_symlink_is_refused(host):
    host.paths.serial_log(VM).symlink_to("/etc/hostname")
    with pytest.raises(PolicyError):
        launch.do(request(), host)


def test_a_log_with_a_second_name_is_refused(host):
    other = host.paths.vm(VM) / "other"
    other.touch()
    os.chown(other, UID, UID)
    host.paths.serial_log(VM).hardlink_to(other)
    with pytest.raises(PolicyError):
        launch.do(request(), host)


def test_a_long_run_directory_is_no_trouble(host, tmp_path):
    paths = HostPaths(host.paths.state, tmp_path / ("r" * 120))
    with locked(paths, VM) as jail, listen_qmp(jail):
        assert (paths.jail(VM) / "qmp.sock").is_socket()


def test_a_host_takes_no_more_than_its_policy_allows(host):
    for limits in ({"max_host_vcpus": 2}, {"max_host_memory_mib": 128}):
        small = root_host(host.policy.model_copy(update=limits))
        small.registry.admit("b" * 12, 1, 9)
        small.registry.update("b" * 12, vcpus=2, memory_mib=65)
        with pytest.raises(PolicyError, match="this host's VMs would have"):
            launch.do(request(), small)
        assert pids() == (None, None)


# --- the worker's death --------------------------------------------------------------------------

WORKER = """
import signal, sys
from root_worker.host import root_host
from banger.contracts.policy import Policy
from root_worker.stages import launch
from banger.contracts.requests import LaunchRequest
host = root_host(Policy.model_validate_json(sys.argv[1]))
launch.do(LaunchRequest.model_validate_json(sys.argv[2]), host)
print("launched", flush=True)
signal.pause()
"""


def worker_argv(host: RootHost, before: str = "") -> list[str]:
    asked = (host.policy.model_dump_json(), request().model_dump_json())
    return [sys.executable, "-c", before + WORKER, *asked]


def test_the_vmm_and_its_log_survive_the_kill_of_the_workers_whole_group(host):
    install_kernel(host, tiny_kernel("on and on\n" * 100, end="again"))
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            WORKER,
            host.policy.model_dump_json(),
            request().model_dump_json(),
        ],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"launched\n"
        os.killpg(worker.pid, signal.SIGKILL)
    assert None not in pids()
    older = host.paths.serial_log(VM).with_name("serial.log.1")
    os.truncate(older, 0)
    eventually(lambda: older.stat().st_size > 0)  # so it was filled and turned over after the worker's death
    assert launch.do(request(), host)["pid"] == pids()[0]


KILLED_BEFORE_IT_ANSWERS = """
import os, signal
from root_worker.vmm import qmp
qmp.answers = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_killed_between_start_and_answer_loses_no_vmm(host):
    dead = subprocess.run(worker_argv(host, KILLED_BEFORE_IT_ANSWERS), check=False)
    assert dead.returncode == -signal.SIGKILL
    vmm = pids()[0]
    assert vmm
    assert launch.do(request(), host)["pid"] == vmm
    launch.undo(undo_request(), host)
    assert pids() == (None, None)


KILLED_WHILE_IT_STARTS = """
import os, signal
from root_worker import shell
collect = shell._collect
def die_at_the_keepers(process, *rest):
    if "/keeper/keeper.py" in process.args:
        os.kill(os.getpid(), signal.SIGKILL)
    return collect(process, *rest)
shell._collect = die_at_the_keepers
"""


def test_what_a_killed_worker_was_about_to_start_is_undone_too(host):
    """Before it has the VM's uid nobody can tell whose it is; so it holds the jail's lock until then."""
    subprocess.run(worker_argv(host, KILLED_WHILE_IT_STARTS), check=False)
    launch.undo(undo_request(), host)
    time.sleep(0.1)  # what had escaped would be up by now
    assert pids() == (None, None)


# --- time to live --------------------------------------------------------------------------------


def test_a_vmm_ends_by_itself_when_its_vms_time_to_live_is_over(host):
    launch.do(request(expires_at=time.time() + 1), host)
    assert pids()[0]
    eventually(lambda: pids() == (None, None))
    assert "[banger] the time to live is over" in log_of(host)


def test_a_vm_whose_time_to_live_is_over_is_not_started(host):
    with pytest.raises(StageFailedError, match="its time to live is over") as refused:
        launch.do(request(expires_at=time.time() - 7), host)
    assert refused.value.details == "for 7 s, by this host's clock"
    assert pids() == (None, None)
    assert host.registry.get(VM).launched is None
