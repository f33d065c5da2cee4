"""VMs in units of systemd's: what their limits are, what ends them, and what does not."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from farm_box import eventually

from banger.contracts.names import unit_name
from banger.contracts.vmm_limits import limits
from lab.connection import LabError
from lab.farm import boot_id, found, guest, wait_for_workers, wait_until_running
from lab.machine import Machine
from lab.recipe import OWNER
from lab.scenarios import Played

pytestmark = pytest.mark.lab

NAME = "down"  # the one that is not to be back after the reboot
JOB_S = 300.0
NOTICED_S = 240


@pytest.fixture(scope="module", autouse=True)
def stray(lab: Machine) -> str:
    """A unit of no VM, there from the start: root looks for such now and then only, the more so when slow."""
    name = unit_name("0badc0ffee01")
    lab.run(f"systemd-run --quiet --unit={name} --slice=banger.slice sleep 3600")
    return name


@pytest.fixture(scope="module")
def vm(lab: Machine, steady) -> str:
    """The id of a VM that runs, which each test leaves running."""
    vm_id: str = wait_until_running(lab, NAME)["id"]
    return vm_id


def living(lab: Machine, vm_id: str) -> str:
    """Return who lives in the VM's unit: of each process its pid, the time of its start, and its name.

    With KVM the kernel puts a thread of its own beside them (kvm-nx-lpage-recovery), which is left out.
    """
    return lab.run(
        f"for pid in $(cat /sys/fs/cgroup/banger.slice/{unit_name(vm_id)}/cgroup.procs); do\n"
        "awk '$2 !~ /^.kvm-/ { print $1, $22, $2 }' /proc/$pid/stat\n"
        "done"
    )


def test_the_limits_of_a_vm_are_its_units(lab: Machine, vm: str) -> None:
    wanted = limits(1, 128)
    files = "memory.max memory.swap.max pids.max cpu.max io.weight"
    read = lab.run(f"cd /sys/fs/cgroup/banger.slice/{unit_name(vm)}; cat {files}")
    assert read.splitlines() == [
        str(wanted["memory"]),
        "0",
        str(wanted["pids"]),
        f"{wanted['cpu']} 100000",
        "default 100",
    ]
    shown = lab.run(f"systemctl show {unit_name(vm)} -p ActiveState,Slice,Transient,DevicePolicy")
    assert set(shown.split()) == {
        "ActiveState=active",
        "Slice=banger.slice",
        "Transient=yes",
        "DevicePolicy=closed",
    }


def test_the_vmm_and_its_keeper_are_all_that_is_in_it(lab: Machine, vm: str) -> None:
    there = living(lab, vm)
    assert len(there.splitlines()) == 2, there
    assert "(python" in there
    assert "(qemu" in there or "(firecracker" in there
    of_root = lab.run("systemctl show -P ControlGroup banger-root-worker").strip()
    assert set(lab.run(f"ps -o uid= -p $(paste -sd, /sys/fs/cgroup{of_root}/cgroup.procs)").split()) == {"0"}


def test_neither_a_kill_nor_a_restart_of_the_services_touches_a_vm(lab: Machine, vm: str) -> None:
    before, boot, killed = living(lab, vm), boot_id(lab, NAME), pids_of_workers(lab)
    drop_in = "/run/systemd/system/banger-root-worker.service.d"
    lab.run(
        "systemctl kill --signal=KILL --kill-whom=main banger-worker banger-root-worker\n"
        "while systemctl show -P MainPID banger-worker banger-root-worker\\\n"
        f"    | grep -xE '{'|'.join(('0', *killed))}' >/dev/null; do sleep 0.5; done"
    )
    # Were a VM in the root worker's own cgroup, this mode would end it with the worker.
    lab.run(
        f"mkdir -p {drop_in}\n"
        f"printf '[Service]\\nKillMode=control-group\\n' >{drop_in}/kill.conf; systemctl daemon-reload\n"
        "test $(systemctl show -P KillMode banger-root-worker) = control-group\n"
        "banger system restart\n"
        f"rm -r {drop_in}; systemctl daemon-reload",
        deadline_s=JOB_S,
    )
    wait_for_workers(lab)
    assert living(lab, vm) == before
    assert boot_id(lab, NAME) == boot


def test_a_unit_that_is_stopped_ends_its_vm_and_the_farm_notices(lab: Machine, vm: str) -> None:
    lab.run(f"systemctl stop {unit_name(vm)}")
    assert _is_gone(lab, vm)
    said = lab.run(f"tail -c 100 /var/lib/banger/vms/{vm}/serial.log")
    assert said.endswith("[banger] the VMM exited with status 0\n")
    stopped = '"state": "stopped"'
    lab.run(
        f"until banger vm show {NAME} --json | grep '{stopped}' >/dev/null; do sleep 1; done",
        deadline_s=NOTICED_S,
    )
    eventually(lambda: not found(lab, NAME))


def test_what_systemd_refuses_is_said_in_its_words(lab: Machine, vm: str) -> None:
    lab.run(f"systemctl mask --runtime --quiet {unit_name(vm)}")
    try:
        with pytest.raises(LabError) as refused:
            lab.run(f"banger vm start {NAME} --quiet", user=OWNER, deadline_s=JOB_S)
    finally:
        lab.run(f"systemctl unmask --runtime --quiet {unit_name(vm)}")
    assert f"systemd does not make {unit_name(vm)}" in str(refused.value)
    assert "already loaded" in str(refused.value)


def test_a_name_that_a_failed_unit_has_taken_breaks_no_start(lab: Machine, vm: str) -> None:
    taken = lab.run(
        f"systemd-run --quiet --unit={unit_name(vm)} --slice=banger.slice false\n"
        f"until systemctl is-failed --quiet {unit_name(vm)}; do sleep 0.1; done\n"
        f"systemctl show -P ActiveState {unit_name(vm)}"
    )
    assert taken.strip() == "failed"
    lab.run(f"banger vm start {NAME} --quiet", user=OWNER, deadline_s=JOB_S)
    assert len(living(lab, vm).splitlines()) == 2
    assert f"inet {found(lab, NAME)}/" in guest(lab, NAME, "ip -4 addr show")


def test_a_unit_of_a_vm_that_nobody_knows_is_swept(lab: Machine, stray: str) -> None:
    lab.run(f"while systemctl is-active --quiet {stray}; do sleep 1; done", deadline_s=NOTICED_S)


def test_root_killed_at_any_step_leaves_nothing_that_an_undo_does_not_remove(
    killed_starts: Future[Played],
) -> None:
    all_of_it = ["cgroup", "jail", "keeper", "unit", "vmm"]
    assert killed_starts.result() == {
        step: {"ended": -9, "after the kill": left, "after the undo": []}
        for step, left in {
            "before systemd is asked": ["jail"],
            "once systemd is asked": ["jail"],
            "once the unit has come": ["jail"],
            "while the keeper starts": ["jail"],
            "once the keeper is in the unit": all_of_it,
            "once root has let go": all_of_it,
        }.items()
    }


def pids_of_workers(lab: Machine) -> set[str]:
    return set(lab.run("systemctl show -P MainPID banger-worker banger-root-worker").split())


def _is_gone(lab: Machine, vm_id: str) -> bool:
    name = unit_name(vm_id)
    places = f"/sys/fs/cgroup/banger.slice/{name} /run/systemd/transient/{name}"
    return not lab.try_run(f"ls -d {places}").out
