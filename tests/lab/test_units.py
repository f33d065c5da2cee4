"""VMs in units of systemd's: what their limits are, what ends them, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from banger.contracts.names import unit_name
from banger.contracts.vmm_limits import limits
from lab.connection import LabError
from lab.machine import Machine

pytestmark = pytest.mark.lab

PYTHON = "/opt/banger/bin/python"
CALL_S = 300.0  # one call of banger, on a host that others keep busy
ENDS_S = 120


@pytest.fixture(scope="module")
def vm(lab: Machine) -> Iterator[str]:
    """The id of a VM that runs; tests leave it running."""
    made = lab.json("banger vm create units --image micro --memory 128MiB --json", deadline_s=CALL_S)
    yield made["id"]
    lab.run("banger vm delete units --force", deadline_s=CALL_S)


def vmm_of(lab: Machine, vm_id: str) -> str:
    """Return who the VM's processes are, each by its pid, the time of its start, and its program."""
    return lab.run(
        f"for pid in $(cat /sys/fs/cgroup/banger.slice/{unit_name(vm_id)}/cgroup.procs); do\n"
        "echo $pid $(cut -d' ' -f22 /proc/$pid/stat) $(tr '\\0' ' ' </proc/$pid/cmdline | cut -d' ' -f1)\n"
        "done"
    )


def state_becomes(lab: Machine, name: str, state: str) -> None:
    """Wait until the farm says that the VM is in this state."""
    said = f'"state": "{state}"'
    lab.run(
        f"for try in $(seq {ENDS_S}); do\n"
        f"banger vm show {name} --json | grep -q '{said}' && exit\n"
        "sleep 1; done; exit 1",
        deadline_s=CALL_S,
    )


def test_the_limits_of_a_vm_are_its_units(lab: Machine, vm: str) -> None:
    wanted = limits(1, 128)
    read = lab.run(
        f"cd /sys/fs/cgroup/banger.slice/{unit_name(vm)}; cat memory.max pids.max cpu.max io.weight"
    )
    assert read.splitlines() == [
        str(wanted["memory"]),
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
    names = [line.split()[-1] for line in vmm_of(lab, vm).splitlines()]
    assert len(names) == 2
    assert any("python" in name for name in names)
    assert any("qemu" in name or "firecracker" in name for name in names)
    root = lab.run("systemctl show banger-root-worker -p ControlGroup --value").strip()
    users = lab.run(f"ps -o uid= -p $(paste -sd, /sys/fs/cgroup{root}/cgroup.procs)")
    assert set(users.split()) == {"0"}


@pytest.mark.parametrize("mode", ["control-group", "mixed"])
def test_no_kill_mode_of_the_root_worker_touches_a_vm(lab: Machine, vm: str, mode: str) -> None:
    before = vmm_of(lab, vm)
    drop_in = "/run/systemd/system/banger-root-worker.service.d"
    lab.run(
        f"mkdir -p {drop_in}; printf '[Service]\\nKillMode={mode}\\n' >{drop_in}/kill.conf\n"
        "systemctl daemon-reload\n"
        f"test $(systemctl show banger-root-worker -p KillMode --value) = {mode}\n"
        "systemctl restart banger-root-worker\n"
        f"rm -r {drop_in}; systemctl daemon-reload",
        deadline_s=CALL_S,
    )
    assert vmm_of(lab, vm) == before


def test_a_stopped_unit_ends_its_vm_and_the_farm_notices(lab: Machine, vm: str) -> None:
    lab.run(f"systemctl stop {unit_name(vm)}")
    assert lab.try_run(f"ls -d /sys/fs/cgroup/banger.slice/{unit_name(vm)}").code
    said = lab.run(f"tail -c 100 /var/lib/banger/vms/{vm}/serial.log")
    assert said.endswith("[banger] the VMM exited with status 0\n")
    state_becomes(lab, "units", "stopped")
    lab.run("banger vm start units", deadline_s=CALL_S)
    assert vmm_of(lab, vm)


def test_a_name_that_a_failed_unit_has_taken_breaks_no_start(lab: Machine, vm: str) -> None:
    lab.run("banger vm stop units", deadline_s=CALL_S)
    taken = lab.run(
        f"systemd-run --quiet --unit={unit_name(vm)} --slice=banger.slice false\n"
        f"for try in $(seq 100); do systemctl is-failed --quiet {unit_name(vm)} && break; sleep 0.1; done\n"
        f"systemctl show {unit_name(vm)} -p ActiveState --value"
    )
    assert taken.strip() == "failed"
    lab.run("banger vm start units", deadline_s=CALL_S)
    assert vmm_of(lab, vm)


def test_what_systemd_refuses_is_said_with_its_words(lab: Machine, vm: str) -> None:
    lab.run("banger vm stop units; systemctl mask --runtime --now banger.slice", deadline_s=CALL_S)
    try:
        with pytest.raises(LabError) as refused:
            lab.run("banger vm start units", deadline_s=CALL_S)
    finally:
        lab.run("systemctl unmask --runtime banger.slice; banger vm start units", deadline_s=CALL_S)
    assert f"systemd does not make {unit_name(vm)}" in str(refused.value)
    assert "masked" in str(refused.value)


def test_a_unit_of_a_vm_that_nobody_knows_is_swept(lab: Machine) -> None:
    name = unit_name("0badc0ffee01")
    lab.run(
        f"systemd-run --quiet --unit={name} --slice=banger.slice sleep 3600\n"
        f"for try in $(seq {ENDS_S}); do systemctl is-active --quiet {name} || exit 0; sleep 1; done; exit 1",
        deadline_s=CALL_S,
    )


def test_a_root_worker_killed_at_any_step_leaves_nothing_that_an_undo_does_not_remove(lab: Machine) -> None:
    lab.put(Path(__file__).with_name("killed_starts.py"), "/root/killed_starts.py")
    # Meanwhile the worker, which has strays swept, must not help.
    found = lab.json(
        "systemctl stop banger-worker\n"
        "trap 'systemctl start banger-worker; rm -rf /var/tmp/banger-killed-*' EXIT\n"
        f"unshare --mount --propagation slave -- {PYTHON} /root/killed_starts.py",
        deadline_s=CALL_S,
    )
    both = ["cgroup", "jail", "keeper", "unit", "vmm"]
    assert found == {
        step: {"ended": -9, "after the kill": after_kill, "after the undo": []}
        for step, after_kill in {
            "before systemd is asked": ["jail"],
            "once systemd is asked": ["jail"],
            "once the unit has come": ["jail"],
            "while the keeper starts": ["jail"],
            "once the keeper is in the unit": both,
            "once root has let go": both,
        }.items()
    }
