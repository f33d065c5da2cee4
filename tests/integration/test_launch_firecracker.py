"""The launch stage with a jailer and a Firecracker that stand in for the real ones, jail and all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import UID, VM, undo_request
from firecracker_pair import installed_pair, with_pair
from vmm_host import (
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

from banger.contracts import accelerator
from banger.contracts.errors import StageFailedError
from banger.contracts.requests import KillRequest
from root_worker.host import RootHost
from root_worker.ops import dm_snapshot
from root_worker.ops.tap import open_tap
from root_worker.stages import launch
from root_worker.vmm import make_jail, processes

pytestmark = pytest.mark.integration

GUEST = b"say a guest is up\n"


@pytest.fixture(scope="module")
def pair() -> Iterator[dict[str, Path]]:
    with installed_pair() as made:
        yield made


@pytest.fixture
def host(pair) -> Iterator[RootHost]:
    """A host with the pair, an admitted VM, its disks and its tap."""
    with vmm_host() as made:
        install_kernel(made, GUEST)
        yield with_pair(with_tap(made), pair)


def kill_request(name: str) -> KillRequest:
    return KillRequest.model_validate({"vm_id": VM, "generation": 1, "signal": name})


def mounts_of(pid: int) -> list[str]:
    return [line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


# --- what runs -----------------------------------------------------------------------------------


def test_firecracker_runs_jailed_as_the_vms_uid_and_its_guest_speaks(host):
    told = launch.do(request(), host)

    vmm, keeper = pids()
    assert (told["pid"], told["vmm"], told["accelerator"]) == (vmm, "firecracker", "kvm")
    assert host.registry.get(VM).vmm == "firecracker"
    status = status_of(vmm)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(UID)}
    assert (status["Groups"], status["NoNewPrivs"]) == ("", "1")
    assert int(status["CapEff"], 16) == 0
    assert status["NSpid"].split()[-1] == "1", "it sees no other process"
    assert os.getsid(vmm) != os.getsid(os.getpid())
    limits = Path(f"/proc/{vmm}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    assert "Max open files            1024                 1024" in limits
    assert "Max file size             1048576              1048576" in limits
    assert keeper is not None
    eventually(lambda: "a guest is up" in log_of(host))


def test_it_sees_its_own_files_and_no_others(host):
    launch.do(request(), host)

    root = Path(f"/proc/{pids()[0]}/root")
    seen = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert seen == {
        *("firecracker", "firecracker.pid", "kernel", "initrd", "vda", "vdb", "console", "metrics"),
        *("run", "run/firecracker.socket", "run/vsock.socket"),
        *("dev", "dev/kvm", "dev/urandom", "dev/net", "dev/net/tun"),
    }
    for name, disk in (("vda", host.paths.overlay(VM)), ("vdb", host.paths.work_disk(VM))):
        assert (root / name).samefile(disk)
    assert mounts_of(pids()[0])[0] == "/"
    assert not any("banger" in place for place in mounts_of(pids()[0]))


def test_nothing_of_the_jail_is_seen_from_outside(host):
    launch.do(request(), host)

    assert list((host.paths.jail(VM) / "root").iterdir()) == []
    assert not any(str(host.paths.jail(VM)) in place for place in mounts_of(os.getpid()))
    assert host.paths.overlay(VM).stat().st_nlink == 1


def test_the_keeper_holds_the_logs_and_what_it_watches_by_and_nothing_else(host):
    launch.do(request(), host)

    keeper = pids()[1]
    status = status_of(keeper)
    assert set(status["Uid"].split()) == {str(UID)}
    assert {int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    log = str(host.paths.serial_log(VM))
    held = [name for name in open_files(keeper) if not name.startswith("pipe:")]
    in_jail = [name for name in held if name.endswith(("/console", "/metrics", "/run"))]
    assert len(in_jail) == 3
    assert sorted(set(held) - set(in_jail)) == sorted(
        {
            str(host.paths.vmm_root / "dev/null"),
            *(log, f"{log}.1", str(host.paths.metrics(VM))),
            "anon_inode:[pidfd]",
        }
    )
    assert int(status["VmRSS"].split()[0]) < 16 * 1024


def test_what_firecracker_counts_is_kept(host):
    launch.do(request(), host)
    file = host.paths.metrics(VM)
    eventually(lambda: file.read_text().endswith("\n"))
    told = json.loads(file.read_text())
    assert told["utc_timestamp_ms"] == 1
    assert len(told["uart"]) == 900


def test_it_lives_in_the_vms_cgroups(host):
    told = launch.do(request(), host)
    if not told["limits"]:
        pytest.skip("this host has no cgroup controllers to set limits with")
    for pid in pids():
        assert f"/{host.paths.cgroups}/{VM}" in Path(f"/proc/{pid}/cgroup").read_text()


def test_a_system_disk_may_be_a_block_device(host, monkeypatch):
    made = subprocess.run(
        ["losetup", "--find", "--show", host.paths.overlay(VM)], capture_output=True, check=True, text=True
    )
    device = Path(made.stdout.strip())
    try:
        os.chown(device, UID, UID)
        monkeypatch.setattr(dm_snapshot, "path", lambda _vm_id: device)
        host.registry.update(VM, disk_backend="dm-snapshot")
        launch.do(request(), host)
        assert Path(f"/proc/{pids()[0]}/root/vda").is_block_device()
        launch.undo(undo_request(), host)
    finally:
        os.chown(device, 0, 6)
        subprocess.run(["losetup", "--detach", device], check=True)


def test_a_flood_stays_within_the_logs_limit(host):
    install_kernel(host, b"flood 4000000\nsay the last word\n")
    launch.do(request(), host)
    eventually(lambda: "the last word" in log_of(host))
    newer = host.paths.serial_log(VM)
    assert newer.stat().st_size + newer.with_name("serial.log.1").stat().st_size <= 1024 * 1024


# --- again ---------------------------------------------------------------------------------------


def test_a_second_do_starts_nothing(host):
    first = launch.do(request(), host)
    assert launch.do(request(), host) == first


def test_one_that_nobody_could_tell_what_to_run_is_started_anew(host):
    first = launch.do(request(), host)
    os.kill(pids()[1], signal.SIGKILL)  # as when root was killed before it had a keeper
    eventually(lambda: pids()[1] is None)

    second = launch.do(request(), host)
    assert second["pid"] not in (None, first["pid"])
    assert pids()[1] is not None


@pytest.mark.parametrize("after_s", [0.02, 0.08, 0.15, 0.25, 0.4, 0.6])
def test_a_root_worker_that_is_killed_in_the_middle_leaves_what_the_next_one_mends(host, after_s):
    worker = os.fork()
    if worker == 0:
        launch.do(request(), host)
        os._exit(0)
    time.sleep(after_s)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)

    told = launch.do(request(), host)

    def one_vmm_and_its_keeper() -> bool:
        with processes.held(UID) as alive:  # a keeper that is about to start has helpers
            vmms = [one.pid for one in alive if one.is_vmm]
            return vmms == [told["pid"]] and len(alive) == 2

    eventually(one_vmm_and_its_keeper)
    launch.undo(undo_request(), host)
    assert pids() == (None, None)


def left_jailers() -> list[int]:
    """Return the jailers of the VM that nobody waits for any more: the leader of their session is gone."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            left = not Path(f"/proc/{os.getsid(int(place.name))}").exists()
            if left and {b"--daemonize", f"banger-{VM}".encode(), str(UID).encode()} <= set(words):
                found.append(int(place.name))
    return found


@pytest.mark.parametrize("where", ["pid = os.getpid()", "os.setgroups([])"])
def test_a_jailer_that_root_has_left_in_the_background_does_not_outlive_an_undo(host, pair, where):
    """Neither root nor the VM's uid would know of what it becomes: it is ended before it is Firecracker."""
    jailer, text = pair["jailer"], pair["jailer"].read_text()
    jailer.write_text(text.replace(f"    {where}", f"    import time; time.sleep(60)\n    {where}"))
    worker = os.fork()
    if worker == 0:
        launch.do(request(), host)
        os._exit(0)
    try:
        eventually(left_jailers)
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)

        launch.undo(undo_request(), host)
        assert left_jailers() == []
        assert not host.paths.jail(VM).exists()
    finally:
        jailer.write_text(text)
        for pid in left_jailers():
            os.kill(pid, signal.SIGKILL)


def test_a_jail_directory_that_a_crash_has_left_is_no_obstacle(host):
    left = host.paths.jail(VM) / "root" / "firecracker" / f"banger-{VM}" / "root"
    left.mkdir(parents=True)
    (left / "firecracker.pid").write_text("1")
    (left / "dev").mkdir()
    launch.do(request(), host)
    launch.undo(undo_request(), host)
    assert not host.paths.jail(VM).exists()


# --- the end -------------------------------------------------------------------------------------


def test_undo_ends_all_of_it_and_leaves_nothing(host):
    launch.do(request(), host)
    launch.undo(undo_request(), host)

    assert pids() == (None, None)
    assert not host.paths.jail(VM).exists()
    assert host.registry.get(VM).vmm is None
    launch.undo(undo_request(), host)


def test_asked_to_end_the_guest_is_sent_ctrl_alt_del_and_ends_firecracker(host):
    launch.do(request(), host)
    started = time.monotonic()
    launch.undo(kill_request("TERM"), host)
    assert time.monotonic() - started < processes.SIGNAL_DEADLINE_S
    assert "[banger] the VMM is asked to end: Ctrl-Alt-Del to the guest" in log_of(host)
    assert log_of(host).endswith("[banger] the VMM has ended\n")


def test_a_guest_that_does_not_listen_is_killed(host, monkeypatch):
    monkeypatch.setattr(processes, "SIGNAL_DEADLINE_S", 0.3)
    install_kernel(host, b"hang\n")
    launch.do(request(), host)
    launch.undo(kill_request("TERM"), host)
    assert "Ctrl-Alt-Del" in log_of(host)
    assert pids() == (None, None)


def test_a_guest_that_ends_by_itself_leaves_no_process(host):
    install_kernel(host, b"say bye\nend\n")
    launch.do(request(), host)
    eventually(lambda: pids() == (None, None))
    assert "bye" in log_of(host)


def test_when_its_time_is_over_it_is_ended(host):
    launch.do(request(expires_at=time.time() + 1.5), host)
    eventually(lambda: pids() == (None, None))
    assert "the time to live is over: Ctrl-Alt-Del to the guest" in log_of(host)


def test_one_that_answers_rubbish_is_ended_in_time_all_the_same(host):
    install_kernel(host, b"rubbish\n")
    launch.do(request(expires_at=time.time() + 1.5), host)
    eventually(lambda: pids() == (None, None), deadline_s=15)
    assert "the time to live is over: it cannot be asked to" in log_of(host)
    assert "signal 9 to the VMM" in log_of(host)


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_start_that_firecracker_refuses_says_why_and_leaves_no_process(host):
    install_kernel(host, b"refuse\n")
    with pytest.raises(StageFailedError) as caught:
        launch.do(request(), host)
    assert "Cannot create a VM" in str(caught.value.details)
    eventually(lambda: pids() == (None, None))
    launch.undo(undo_request(), host)


def test_one_that_crashes_while_it_is_told_what_to_run_is_said_so_and_no_more(host):
    install_kernel(host, b"crash\n")
    with pytest.raises(StageFailedError, match="could not be started") as caught:
        launch.do(request(), host)
    assert "Traceback" not in caught.value.details
    assert "hung up" in caught.value.details or "reset" in caught.value.details
    assert pids() == (None, None)


def test_a_jailer_that_fails_says_why(host, pair):
    jailer, text = pair["jailer"], pair["jailer"].read_text()
    jailer.write_text(text.replace("    pivot(root)\n", "    pivot(root / 'nowhere')\n"))
    try:
        with pytest.raises(StageFailedError, match="Firecracker could not be started") as caught:
            launch.do(request(), host)
        assert "Jailer error: bind: No such file" in caught.value.details
        assert pids() == (None, None)
    finally:
        jailer.write_text(text)


def test_the_jail_is_made_by_this_workers_code_whatever_has_been_installed_since(host, monkeypatch):
    monkeypatch.setattr(make_jail, "__file__", "/nowhere/make_jail.py")
    assert launch.do(request(), host)["vmm"] == "firecracker"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"firecracker": Path("/usr/local/bin/no-firecracker")}, "cannot be run"),
        ({"jailer": Path("/usr/bin/true")}, "does not say its version"),
    ],
)
def test_without_a_pair_qemu_runs_the_vm_and_asking_for_firecracker_is_refused(host, change, why):
    lacking = with_pair(host, {}, **change, accelerator="kvm")
    with pytest.raises(StageFailedError, match=why):
        launch.do(request(vmm="firecracker"), lacking)
    assert launch._choose_vmm(request(), lacking, "kvm") == "qemu"


def test_a_program_that_others_may_write_is_not_used(host):
    host.policy.firecracker.chmod(0o777)
    try:
        with pytest.raises(StageFailedError, match="not what root alone can write"):
            launch.do(request(vmm="firecracker"), host)
    finally:
        host.policy.firecracker.chmod(0o755)


def test_a_jailer_of_another_version_is_not_used(host):
    jailer, text = host.policy.jailer, host.policy.jailer.read_text()
    jailer.write_text(text.replace("1.16.1", "1.15.0"))
    try:
        with pytest.raises(StageFailedError, match=r"version 1\.16\.1, its jailer of 1\.15\.0"):
            launch.do(request(vmm="firecracker"), host)
    finally:
        jailer.write_text(text)


def test_without_kvm_qemu_runs_the_vm(host):
    emulated = with_pair(host, {}, accelerator="tcg")
    with pytest.raises(StageFailedError, match="needs KVM"):
        launch.do(request(vmm="firecracker"), emulated)
    assert launch._choose_vmm(request(), emulated, "tcg") == "qemu"


def test_it_has_opened_kvm_and_the_vms_tap_and_disks(host):
    launch.do(request(), host)
    opened = {"/dev/net/tun", "/vda", "/vdb"} | ({"/dev/kvm"} if accelerator.KVM.exists() else set())
    assert opened <= set(open_files(pids()[0]))
    with pytest.raises(OSError, match="busy"):
        open_tap(VM)
