"""Firecracker itself, where its binaries are given: a VM's life on an installed host, under KVM.

``BANGER_LAB_FIRECRACKER`` and ``BANGER_LAB_JAILER`` name the two programs of one release.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.machine import Machine

pytestmark = pytest.mark.lab

BINARIES = {"firecracker": "BANGER_LAB_FIRECRACKER", "jailer": "BANGER_LAB_JAILER"}
VM = "fire"
_BOOT_S = 240.0
_KNOWN_S = 60.0


@pytest.fixture(scope="module")
def host(lab: Machine) -> Iterator[Machine]:
    """The lab's host with the pair installed, and without it afterwards."""
    given = {name: os.environ.get(variable) for name, variable in BINARIES.items()}
    if missing := [BINARIES[name] for name, path in given.items() if not path or not Path(path).is_file()]:
        pytest.skip(f"needs Firecracker's binaries: {' and '.join(missing)} name no file")
    for name, path in given.items():
        lab.put(Path(str(path)), f"/usr/local/bin/{name}", mode=0o755)
    try:
        wait_until_placed(lab)
        yield lab
    finally:
        lab.try_run(f"banger vm delete {VM}", deadline_s=120)
        lab.run("rm -f /usr/local/bin/firecracker /usr/local/bin/jailer")


def wait_until_placed(lab: Machine) -> None:
    """Wait until the farm knows that the host runs VMs by Firecracker; its worker looks every two seconds."""
    deadline = time.monotonic() + _KNOWN_S
    while time.monotonic() < deadline:
        (found,) = lab.json("banger host list --json")
        if "firecracker" in found["vmms"]:
            return
    pytest.fail(f"the farm does not take Firecracker: {found['vmm_obstacles']}")


@pytest.fixture
def vm(host: Machine) -> Iterator[dict[str, Any]]:
    """A running VM that asked for Firecracker, as ``vm show --json`` tells of it."""
    host.run(f"banger vm create {VM} --vmm firecracker --quiet", deadline_s=_BOOT_S)
    try:
        yield host.json(f"banger vm show {VM} --json")
    finally:
        host.try_run(f"banger vm delete {VM}", deadline_s=120)


def pid_of(host: Machine, vm: dict[str, Any]) -> int:
    return int(host.run(f"pgrep --oldest --full -- '^/firecracker --id banger-{vm['id']} '"))


def count(line: str) -> int:
    return int(line.split()[1])


def console(host: Machine, vm: dict[str, Any]) -> str:
    return host.run(f"cat /var/lib/banger/vms/{vm['id']}/serial.log")


def test_doctor_says_that_firecracker_would_run_a_new_vm(host: Machine) -> None:
    checks = {one["name"]: one for one in host.json("banger doctor --json || true", deadline_s=120)}
    assert checks["Firecracker"]["status"] == "ok"
    assert checks["VMM"]["found"].startswith("firecracker, since")


def test_a_guest_boots_and_runs_commands(host: Machine, vm: dict[str, Any]) -> None:
    assert vm["vmm"] == "firecracker, kvm"
    assert host.run(f"banger vm exec {VM} -- sh -c 'echo $((6 * 7))'") == "42\n"
    assert "reboot=k" in host.run(f"banger vm exec {VM} -- cat /proc/cmdline")
    assert host.try_run(f"banger vm exec {VM} -- sh -c 'exit 7'").code == 7


def test_it_is_jailed_limited_and_filtered(host: Machine, vm: dict[str, Any]) -> None:
    pid = pid_of(host, vm)
    said = host.run(f"cat /proc/{pid}/status")
    status = {key: value.split() for key, _, value in (line.partition(":") for line in said.splitlines())}
    assert int(status["Uid"][0]) >= 300_000
    assert len(set(status["Uid"] + status["Gid"])) == 1
    assert status["Groups"] == []
    assert int(status["CapEff"][0], 16) == 0
    assert status["NoNewPrivs"] == ["1"]
    assert status["NSpid"][-1] == "1"
    root = "$(systemctl show --value --property MainPID banger-root-worker)"
    inherited, *filters = host.run(
        f"grep -h ^Seccomp_filters: /proc/{{{root},{pid}/task/*}}/status"
    ).splitlines()
    assert min(map(count, filters)) > count(inherited), "each thread has one of Firecracker's own"
    unit = f"/sys/fs/cgroup/banger.slice/banger-vm-{vm['id']}.service"
    assert str(pid) in host.run(f"cat {unit}/cgroup.procs").split()
    assert int(host.run(f"cat {unit}/memory.max")) == (256 + 1 + 256) * 2**20
    assert host.run(f"cat {unit}/cpu.max").split()[0] != "max"
    seen = set(host.run(f"ls /proc/{pid}/root").split())
    assert {"kernel", "initrd", "vda", "vdb", "dev", "run"} <= seen
    assert not {"etc", "usr", "proc"} & seen


def test_a_stop_ends_it_by_the_guests_restart_and_a_start_finds_the_changes(
    host: Machine, vm: dict[str, Any]
) -> None:
    for place in ("/root/kept", "/var/lib/kept"):
        host.run(f"banger vm exec {VM} -- sh -c 'echo yes > {place}'")
    host.run(f"banger vm stop {VM}", deadline_s=120)
    said = console(host, vm)
    assert "[banger] the VMM has ended" in said
    assert "Ctrl-Alt-Del" not in said, "the guest restarted by itself, and was not asked by its VMM"
    host.run(f"banger vm start {VM}", deadline_s=_BOOT_S)
    for place in ("/root/kept", "/var/lib/kept"):
        assert host.run(f"banger vm exec {VM} -- cat {place}") == "yes\n"


def test_a_signal_becomes_ctrl_alt_del(host: Machine, vm: dict[str, Any]) -> None:
    host.run(f"banger vm kill {VM} --signal TERM", deadline_s=120)
    assert "Ctrl-Alt-Del to the guest" in console(host, vm)
    assert host.json(f"banger vm show {VM} --json")["state"] == "stopped"


def test_restarting_the_workers_leaves_it_running(host: Machine, vm: dict[str, Any]) -> None:
    boot = host.run(f"banger vm exec {VM} -- cat /proc/sys/kernel/random/boot_id")
    host.run("systemctl restart banger-root-worker banger-worker", deadline_s=240)
    assert host.run(f"banger vm exec {VM} -- cat /proc/sys/kernel/random/boot_id") == boot
    host.run(f"banger vm stop {VM}", deadline_s=240)


def test_limits_of_disk_and_network_are_taken(host: Machine) -> None:
    words = "--disk-rate 20MiB --disk-ops 2000 --net-rate 5MiB"
    try:
        host.run(f"banger vm create {VM} --vmm firecracker {words} --quiet", deadline_s=_BOOT_S)
        write = "dd if=/dev/zero of=/root/big bs=1M count=60 conv=fsync 2>&1 | tail -1"
        took = host.run(f"{{ time -p banger vm exec {VM} -- sh -c '{write}'; }} 2>&1", deadline_s=120)
        seconds = float(took.partition("real")[2].split()[0])
        assert seconds > 1.5, "60 MiB at 20 MiB a second, the first 20 at once"
    finally:
        host.run(f"banger vm delete {VM}", deadline_s=120)


def test_auto_takes_it_and_a_delete_leaves_nothing(host: Machine) -> None:
    host.run(f"banger vm create {VM} --quiet", deadline_s=_BOOT_S)
    made = host.json(f"banger vm show {VM} --json")
    assert made["vmm"] == "firecracker, kvm"
    host.run(f"banger vm delete {VM}", deadline_s=120)
    assert host.run(f"ls -d /run/banger/jails/{made['id']} /var/lib/banger/vms/{made['id']} || true") == ""
    assert host.run(f"systemctl list-units --all --no-legend 'banger-vm-{made['id']}*'") == ""
    assert host.run("pgrep -x firecracker || true") == ""
    reports = host.json("banger reconcile --dry-run --json", deadline_s=120)
    assert [report["findings"] for report in reports.values() if report] == [[]]
