"""QEMU's command line is a pure function: the same for all, but for numbers, descriptors and root's paths."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from banger.contracts import qemu
from banger.contracts.qemu import Drive, Machine, argv, boot_arguments, tsc_khz
from banger.contracts.requests import LaunchRequest

ID = "0123456789ab"

IN_A_VM = (
    "processor\t: 0\nflags\t\t: fpu tsc constant_tsc nonstop_tsc\ncpu MHz\t\t: 2596.144\n\nprocessor\t: 1\n"
)


def machine(**changes: object) -> Machine:
    return Machine(
        vm_id=ID,
        accelerator="tcg",
        tsc_khz=2596144,
        vcpus=2,
        memory_mib=256,
        kernel=Path("/var/lib/banger/kernels/cccccccccccc/vmlinux"),
        initrd=Path("/var/lib/banger/kernels/cccccccccccc/initrd.img"),
        mac="02:fc:ac:10:00:07",
        drives=(Drive(5, block=False), Drive(6, block=True)),
        tap_fd=7,
        qmp_fd=8,
    )._replace(**changes)  # type: ignore[arg-type]


def options(words: tuple[str, ...]) -> list[str]:
    return [word for word in words if word.startswith("-")]


def value(words: tuple[str, ...], option: str) -> str:
    return words[words.index(option) + 1]


def test_the_vmm_carries_its_vms_name():
    words = argv(machine())
    assert words[0] == "/usr/bin/qemu-system-x86_64"
    assert value(words, "-name") == f"banger-{ID}"


def test_the_sandbox_denies_all_that_it_can():
    assert value(argv(machine()), "-sandbox") == (
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    )


def test_there_is_no_device_that_we_did_not_ask_for():
    words = argv(machine())
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    assert value(words, "-display") == "none"


def test_drives_come_as_descriptors_in_the_guests_order():
    words = argv(machine())
    assert [word for word in words if word.startswith("fd=")] == ["fd=5,set=0", "fd=6,set=1"]
    file, device = (word for word in words if "node-name=" in word)
    assert file.startswith("driver=file,node-name=disk0,filename=/dev/fdset/0,")
    assert "locking=on" in file
    assert device.startswith("driver=host_device,node-name=disk1,filename=/dev/fdset/1,")
    assert "locking" not in device
    assert "discard=unmap" in file
    assert "cache.no-flush=off" in file


def test_what_the_vmm_inherits_is_what_its_command_line_names():
    assert machine().fds == (5, 6, 7, 8)


def test_the_tap_and_the_socket_come_as_descriptors():
    words = argv(machine())
    assert "tap,id=net,fd=7,vhost=off" in words
    assert "socket,id=qmp,fd=8,server=on,wait=off" in words
    assert "virtio-net-device,netdev=net,mac=02:fc:ac:10:00:07" in words


def test_a_vm_without_a_work_disk_has_one_drive():
    words = argv(machine(drives=(Drive(5, block=False),)))
    assert sum(word == "-blockdev" for word in words) == 1


def test_memory_is_not_allocated_beforehand():
    words = argv(machine())
    assert value(words, "-m") == "256"
    assert not any("prealloc" in word or "mem-lock=on" in word for word in words)


def test_boot_arguments_are_ours_and_set_no_address():
    arguments = boot_arguments(machine()).split()
    assert {"console=ttyS0", "root=/dev/vda", "panic=1"} <= set(arguments)
    assert not any(argument.startswith("ip=") for argument in arguments)


def test_each_disk_is_throttled_where_that_is_asked_for():
    words = argv(machine(disk_rate_mib_s=50, disk_ops_s=1000))
    for index in (0, 1):
        assert f"throttle-group,id=limit{index},x-bps-total=52428800,x-iops-total=1000" in words
        assert f"driver=throttle,node-name=slow{index},throttle-group=limit{index},file=disk{index}" in words
        assert f"virtio-blk-device,drive=slow{index},serial=disk{index}" in words
    assert not any("throttle" in word for word in argv(machine()))


def test_an_emulated_guest_is_told_its_clocks_frequency():
    assert "tsc_early_khz=2596144" in boot_arguments(machine()).split()


@pytest.mark.parametrize("changes", [{"tsc_khz": None}, {"accelerator": "kvm"}])
def test_a_clock_of_unknown_frequency_or_kvms_is_the_kernels_own_affair(changes):
    assert "tsc" not in boot_arguments(machine(**changes))


def test_kvm_gives_the_hosts_processor_and_emulation_all_it_can():
    assert value(argv(machine(accelerator="kvm")), "-cpu") == "host"
    assert value(argv(machine()), "-cpu") == "max"


def test_the_clocks_frequency_is_read_in_khz():
    assert tsc_khz(IN_A_VM) == 2596144


@pytest.mark.parametrize(
    "cpuinfo",
    [
        "",
        IN_A_VM.replace("constant_tsc ", ""),
        IN_A_VM.replace("fpu", "aperfmperf"),  # then "cpu MHz" is how fast the core runs just now
        IN_A_VM.replace("cpu MHz", "bogomips"),
    ],
)
def test_a_frequency_that_cannot_be_trusted_is_none(cpuinfo):
    assert tsc_khz(cpuinfo) is None


@given(
    st.fixed_dictionaries(
        {
            "vm_id": st.from_regex(r"[0-9a-f]{12}") | st.text(max_size=14),
            "generation": st.integers(1, 99),
            "slot": st.integers(2, 200),
            "kernel": st.from_regex(r"[0-9a-f]{12}") | st.text(max_size=14),
            "name": st.from_regex(r"[a-z0-9-]{1,9}") | st.text(max_size=70),
            "vcpus": st.integers(0, 99),
            "memory_mib": st.integers(0, 2000000),
        }
    )
)
def test_no_field_of_a_request_adds_an_option(fields):
    try:
        request = LaunchRequest.model_validate(fields)
    except ValidationError:
        return
    kernel = Path("/k", request.kernel)
    words = argv(
        machine(
            vm_id=request.vm_id,
            vcpus=request.vcpus,
            memory_mib=request.memory_mib,
            kernel=kernel / "vmlinux",
            initrd=kernel / "initrd.img",
        )
    )
    assert options(words) == options(argv(machine()))
    assert re.fullmatch(r"banger-[0-9a-f]{12}", value(words, "-name"))


@pytest.mark.parametrize(
    ("field", "evil"),
    [
        ("vm_id", "0123456789ab,process=x"),
        ("vm_id", "0123456789ab\n"),
        ("kernel", "../../etc/x"),
        ("kernel", "c" * 12 + "\n"),
        ("name", "-incoming"),
        ("name", "a,b"),
        ("memory_mib", "256M,slots=4"),
        ("vcpus", "2,maxcpus=8"),
    ],
)
def test_fields_that_would_inject_are_refused(field, evil):
    good = {
        "vm_id": ID,
        "generation": 1,
        "slot": 7,
        "kernel": "c" * 12,
        "vcpus": 1,
        "memory_mib": 64,
    }
    LaunchRequest.model_validate(good)
    with pytest.raises(ValidationError):
        LaunchRequest.model_validate(good | {field: evil})


def test_the_probe_boots_with_kvm_and_ends_by_itself():
    words = qemu.probe_argv(Path("/k/vmlinux"))
    assert value(words, "-accel") == "kvm"
    assert "-no-reboot" in words
    assert "panic=-1" in value(words, "-append")
