"""The launch stage with a real QEMU and a kernel of a few bytes, each test in a network of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disks import SLOT, UID, VM, make_host, undo_request
from netns import private_network
from tiny_kernel import tiny_kernel

from banger.contracts import qemu
from banger.contracts.errors import NotFoundError, PolicyError, StageFailedError, StaleGenerationError
from banger.contracts.names import link_alias
from banger.contracts.requests import AdmitRequest, KillRequest, LaunchRequest, TapRequest
from banger.embedded import network
from banger.settings import Settings
from root_worker.host import RootHost, root_host
from root_worker.ops.process import alive, identify
from root_worker.registry import Process
from root_worker.stages import admit, launch, tap
from root_worker.vmm import jail, kill, running

pytestmark = pytest.mark.integration

KERNEL = "cccccccccccc"
GREETING = "a tiny guest is up"
DEADLINE_S = 10


@pytest.fixture
def host() -> Iterator[RootHost]:
    """A host with an admitted VM, its disks and its tap; whatever was launched is dead afterwards."""
    with private_network():
        state = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="banger-launch-"))
        state.chmod(0o711)  # pytest's own directories are closed to the VM's uid, which reads the kernel
        made = make_host(state)
        made = root_host(made.policy.model_copy(update={"accelerator": "tcg", "serial_log_mib": 1}))
        install_kernel(made, tiny_kernel(GREETING))
        made.registry.admit(VM, 1, SLOT)
        made.registry.update(VM, disk_backend="file")
        for disk in (made.paths.overlay(VM), made.paths.work_disk(VM)):
            disk.touch()
            os.truncate(disk, 1024 * 1024)
            os.chown(disk, UID, UID)
        network.ensure(Settings(host="here"))
        tap.do(TapRequest(vm_id=VM, generation=1, slot=SLOT, nat=False), made)
        try:
            yield made
        finally:
            kill.kill(made, VM, "KILL")
            shutil.rmtree(state)


def install_kernel(host: RootHost, kernel: bytes) -> None:
    directory = host.paths.kernel(KERNEL)
    directory.mkdir(exist_ok=True)
    (directory / "vmlinux").write_bytes(kernel)
    (directory / "initrd.img").write_bytes(b"\0" * 512)


def request(generation: int = 1, memory_mib: int = 64) -> LaunchRequest:
    return LaunchRequest(
        vm_id=VM,
        generation=generation,
        slot=SLOT,
        kernel=KERNEL,
        name="dev",
        vcpus=1,
        memory_mib=memory_mib,
    )


def kill_request(name: str) -> KillRequest:
    return KillRequest.model_validate({"vm_id": VM, "generation": 1, "signal": name})


def log_of(host: RootHost) -> str:
    return host.paths.serial_log(VM).read_text(errors="replace")


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def vmm_of(host: RootHost) -> Process:
    entry = host.registry.get(VM)
    assert entry is not None
    assert entry.vmm is not None
    return entry.vmm


# --- what runs -----------------------------------------------------------------------------------


def test_the_vmm_runs_as_its_uid_without_privileges_and_outside_the_workers_session(host):
    answer = launch.do(request(), host)

    pid = vmm_of(host).pid
    assert answer == {"pid": pid, "accelerator": "tcg"}
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


def test_the_shim_has_dropped_to_the_uid_and_holds_nothing_but_the_log(host):
    launch.do(request(), host)

    entry = host.registry.get(VM)
    assert entry is not None
    assert entry.shim is not None
    status = status_of(entry.shim.pid)
    assert set(status["Uid"].split()) == {str(UID)}
    assert int(status["CapEff"], 16) == 0
    held = [str(fd.readlink()) for fd in Path(f"/proc/{entry.shim.pid}/fd").iterdir()]
    log = str(host.paths.serial_log(VM))
    assert sorted(name for name in held if not name.startswith("pipe:")) == ["/dev/null"] * 3 + [
        log,
        f"{log}.1",
    ]
    assert int(status["VmRSS"].split()[0]) < 16 * 1024


def test_the_vmm_inherits_its_drives_tap_and_socket_and_nothing_else(host):
    launch.do(request(), host)

    inherited = {str(fd.readlink()) for fd in Path(f"/proc/{vmm_of(host).pid}/fd").iterdir()}
    files = {name for name in inherited if name.startswith(str(host.paths.state))}
    assert files == {str(host.paths.overlay(VM)), str(host.paths.work_disk(VM))}
    assert "/dev/net/tun" in inherited


def test_the_files_belong_to_whom_they_should(host):
    launch.do(request(), host)

    home = host.paths.jail(VM)
    assert (home.stat().st_uid, home.stat().st_mode & 0o7777) == (0, 0o711)
    socket = (home / jail.SOCKET).stat()
    assert (socket.st_uid, socket.st_mode & 0o7777) == (UID, 0o600)
    pids = (home / jail.PIDS).stat()
    assert (pids.st_uid, pids.st_mode & 0o7777) == (0, 0o600)
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
    assert len(running.find(host, VM).vmms) == 1


def test_a_vmm_whose_worker_died_before_it_could_record_it_is_adopted(host):
    first = launch.do(request(), host)
    host.registry.update(VM, vmm=None, shim=None)
    assert launch.do(request(), host) == first
    assert vmm_of(host).pid == first["pid"]


def test_a_vmm_of_an_earlier_start_is_not_taken_for_this_one(host):
    first = launch.do(request(), host)
    with pytest.raises(StageFailedError, match="earlier start"):
        launch.do(request(generation=2), host)
    assert vmm_of(host).pid == first["pid"]


def test_a_request_of_an_earlier_start_is_refused(host):
    host.registry.admit(VM, 2)
    with pytest.raises(StaleGenerationError):
        launch.do(request(), host)
    with pytest.raises(StaleGenerationError):
        launch.undo(undo_request(), host)


def test_the_vm_starts_again_after_its_guest_has_ended(host):
    install_kernel(host, tiny_kernel(GREETING, end="reset"))
    first = launch.do(request(), host)
    eventually(lambda: not any(running.find(host, VM)))
    assert launch.do(request(), host)["pid"] != first["pid"]


# --- the end -------------------------------------------------------------------------------------


def test_undo_before_launch_and_twice_leaves_nothing(host):
    launch.undo(undo_request(), host)
    launch.undo(undo_request(), host)
    assert list(host.paths.jails.iterdir()) == []


def test_undo_after_half_a_launch_removes_the_jail(host):
    with jail.locked(host.paths, VM) as home:
        jail.listen_qmp(home, UID).close()
        os.close(jail.open_pids(home))
    launch.undo(undo_request(), host)
    assert list(host.paths.jails.iterdir()) == []


def test_undo_kills_the_vmm_and_its_shim_and_removes_the_jail(host):
    launch.do(request(), host)
    alive_before = running.find(host, VM)
    launch.undo(undo_request(), host)
    assert not any(alive(process) for group in alive_before for process in group)
    assert list(host.paths.jails.iterdir()) == []
    entry = host.registry.get(VM)
    assert entry is not None
    assert (entry.vmm, entry.shim, entry.accelerator) == (None, None, None)
    assert log_of(host).endswith("[banger] the VMM was killed by signal 9\n")
    launch.undo(undo_request(), host)


def test_undo_finds_a_vmm_that_neither_registry_nor_jail_knows(host):
    launch.do(request(), host)
    vmm = vmm_of(host)
    host.registry.forget(VM)
    shutil.rmtree(host.paths.jail(VM))
    launch.undo(undo_request(), host)
    assert not alive(vmm)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_gentle_signal_lets_the_vmm_end_by_itself(host, name):
    launch.do(request(), host)
    launch.undo(kill_request(name), host)
    assert log_of(host).endswith("[banger] the VMM exited with status 0\n")


def test_a_vmm_that_does_not_heed_a_gentle_signal_is_killed(host, monkeypatch):
    monkeypatch.setattr(kill, "SIGNAL_DEADLINE_S", 0.1)
    launch.do(request(), host)
    vmm = vmm_of(host)
    os.kill(vmm.pid, signal.SIGSTOP)
    launch.undo(kill_request("TERM"), host)
    assert not alive(vmm)


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


# --- whom we never kill --------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[Callable[..., Process]]:
    """Start processes that sleep, as the given uid and with the given arguments."""
    started: list[subprocess.Popen[bytes]] = []

    def start(uid: int, *arguments: str) -> Process:
        code = "import time; print(flush=True); time.sleep(60)"
        process = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-S", "-c", code, *arguments],
            user=uid,
            group=uid,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return identify(process.pid)

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def write_pids(host: RootHost, vmm: Process) -> None:
    with jail.locked(host.paths, VM) as home:
        launched = jail.Launched(generation=1, vmm=vmm, shim=vmm)
        (home / jail.PIDS).write_text(launched.model_dump_json())
    host.registry.update(VM, vmm=vmm, shim=vmm)


def test_a_recycled_pid_kills_nobody(host, stranger):
    bystander = stranger(UID, "-name", "somebody-else")
    write_pids(host, bystander)
    launch.undo(undo_request(), host)
    assert alive(bystander)


def test_a_process_with_our_name_and_another_start_is_left_alone(host, stranger):
    lookalike = stranger(65534, "-name", link_alias(VM))
    write_pids(host, lookalike.model_copy(update={"start_ticks": lookalike.start_ticks - 1}))
    launch.undo(undo_request(), host)
    assert alive(lookalike)


def test_a_process_with_our_name_under_a_strangers_uid_is_left_alone(host, stranger):
    lookalike = stranger(65534, "-name", link_alias(VM))
    write_pids(host, lookalike)
    launch.undo(undo_request(), host)
    assert alive(lookalike)


def test_another_vms_uid_is_a_strangers_too(host, stranger):
    lookalike = stranger(UID + 1, "-name", link_alias(VM))
    write_pids(host, lookalike)
    launch.undo(undo_request(), host)
    assert alive(lookalike)


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
    with pytest.raises(NotFoundError, match=KERNEL):
        launch.do(request(), host)
    assert not any(running.find(host, VM))


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


def test_a_socket_path_that_is_too_long_is_a_clear_error(host):
    policy = host.policy.model_copy(update={"run_dir": host.paths.run / ("r" * 90)})
    with pytest.raises(StageFailedError, match="longer than 107 bytes"):
        launch.do(request(), root_host(policy))


# --- the worker's death --------------------------------------------------------------------------

WORKER = """
import signal, sys
from root_worker.host import root_host
from root_worker.policy import Policy
from root_worker.stages import launch
from banger.contracts.requests import LaunchRequest
host = root_host(Policy.model_validate_json(sys.argv[1]))
launch.do(LaunchRequest.model_validate_json(sys.argv[2]), host)
print("launched", flush=True)
signal.pause()
"""


def test_the_vmm_and_its_log_survive_the_kill_of_the_workers_whole_group(host):
    install_kernel(host, tiny_kernel("on and on\n" * 100, end="again"))
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, host.policy.model_dump_json(), request().model_dump_json()],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"launched\n"
        os.killpg(worker.pid, signal.SIGKILL)
    assert all(running.find(host, VM))
    older = host.paths.serial_log(VM).with_name("serial.log.1")
    os.truncate(older, 0)
    eventually(lambda: older.stat().st_size > 0)  # so it was filled and turned over after the worker's death
    assert launch.do(request(), host)["pid"] == vmm_of(host).pid


KILLED_BEFORE_IT_RECORDS = """
import os, signal
from root_worker.registry import Registry
update = Registry.update
def die_when_it_matters(self, vm_id, **changes):
    if "vmm" in changes:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, vm_id, **changes)
Registry.update = die_when_it_matters
"""


def test_a_worker_killed_between_start_and_record_loses_no_vmm(host):
    dead = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED_BEFORE_IT_RECORDS + WORKER,
            host.policy.model_dump_json(),
            request().model_dump_json(),
        ],
        check=False,
    )
    assert dead.returncode == -signal.SIGKILL
    entry = host.registry.get(VM)
    assert entry is not None
    assert entry.vmm is None
    (vmm,) = running.find(host, VM).vmms
    assert launch.do(request(), host)["pid"] == vmm.pid
    launch.undo(undo_request(), host)
    assert not alive(vmm)
