"""What systemd is asked for a VM."""

from __future__ import annotations

import pytest

from banger.contracts.inventory import vm_told
from banger.contracts.vm_unit import io_weight, start_argv
from banger.contracts.vmm_limits import limits

VM = "0123456789ab"


def asked(vcpus: int = 2, memory_mib: int = 1024) -> tuple[str, ...]:
    return start_argv("/usr/bin/{}".format, VM, limits(vcpus, memory_mib), "/proc/7/fd/9/unit.sock")


def test_the_unit_has_the_vms_name_its_slice_and_its_limits():
    argv = asked()
    assert argv[0] == "/usr/bin/systemd-run"
    assert f"--unit=banger-vm-{VM}.service" in argv
    assert "--slice=banger.slice" in argv
    for limit in (
        f"MemoryMax={(1024 + 4 + 256) * 1024 * 1024}",
        "MemorySwapMax=0",
        "TasksMax=162",
        "CPUQuota=200%",
        "IOWeight=200",
    ):
        assert f"--property={limit}" in argv


def test_systemd_runs_nothing_but_what_waits_on_the_socket():
    argv = asked()
    assert "--property=StandardInput=file:/proc/7/fd/9/unit.sock" in argv
    assert argv[argv.index("--") :] == ("--", "/usr/bin/cat")
    assert "--property=CapabilityBoundingSet=" in argv


def test_a_unit_goes_whether_it_has_failed_or_not():
    assert "--property=CollectMode=inactive-or-failed" in asked()
    assert "--no-block" in asked()


@pytest.mark.parametrize(("vcpus", "weight"), [(1, 100), (8, 800), (256, 10_000)])
def test_a_share_of_the_disks_is_that_of_the_processors_within_systemds_bound(vcpus, weight):
    assert io_weight(limits(vcpus, 64)) == weight


def test_a_process_tells_its_vm_by_its_unit():
    assert vm_told([f"0::/banger.slice/banger-vm-{VM}.service\n"], "banger-state") == VM
    assert vm_told([f"0::/banger-state/{VM}\n"], "banger-state") == VM
    assert vm_told(["0::/banger.slice/banger-vm-01.service\n"], "banger-state") is None
    assert vm_told([f"0::/banger.slice/banger-vm-{VM}.service/more\n"], "banger-state") is None
