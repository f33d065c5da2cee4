"""Which accelerator a host's VMMs run with: decided by a boot, never by a device that opens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disks import make_host
from tiny_kernel import tiny_kernel

from root_worker.host import RootHost, root_host
from root_worker.ops import accelerator
from root_worker.ops.accelerator import choose_accelerator, kvm_groups
from root_worker.vmm import qemu

pytestmark = pytest.mark.integration

KVM_GROUP = 12345


@pytest.fixture
def device(tmp_path: Path, monkeypatch) -> Path:
    """A /dev/kvm of our own that a group may open."""
    path = tmp_path / "kvm"
    path.touch()
    path.chmod(0o660)
    os.chown(path, 0, KVM_GROUP)
    monkeypatch.setattr(accelerator, "DEVICE", path)
    return path


@pytest.fixture
def host(tmp_path: Path, device: Path) -> RootHost:
    made = make_host(tmp_path / "state")
    kernel = made.paths.kernel("cccccccccccc")
    kernel.mkdir()
    (kernel / "vmlinux").write_bytes(tiny_kernel("x"))
    return made


@pytest.fixture
def fake_qemu(monkeypatch) -> Iterator[Callable[[str], Path]]:
    """Put a script in QEMU's place; each start of it adds a line to the file that is returned."""
    directory = Path("/var/tmp") / f"banger-fake-qemu-{os.getpid()}"
    directory.mkdir(mode=0o755)
    starts = directory / "starts"

    def install(body: str) -> Path:
        starts.touch()
        starts.chmod(0o666)
        script = directory / "qemu"
        script.write_text(f"#!/bin/sh\nid >> {starts}\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setattr(qemu, "BINARY", script)
        return starts

    yield install
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


def test_a_boot_that_speaks_and_ends_proves_kvm(host, fake_qemu):
    starts = fake_qemu("echo Linux version 6.12")
    assert choose_accelerator(host) == ("kvm", "a probe boot with KVM succeeded")
    assert starts.read_text() == f"uid=300000 gid=300000 groups=300000,{KVM_GROUP}\n", "as a VMM would run"


def test_a_boot_that_hangs_means_emulation(host, fake_qemu, monkeypatch):
    monkeypatch.setattr(accelerator, "PROBE_DEADLINE_S", 0.2)
    fake_qemu("exec sleep 60")
    started = time.monotonic()
    choice = choose_accelerator(host)
    assert choice.accelerator == "tcg"
    assert "did not end" in choice.reason
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("body", ["exit 1", "exit 0", "kill -ABRT $$"])
def test_a_boot_without_a_word_from_the_kernel_means_emulation(host, fake_qemu, body):
    fake_qemu(body)
    assert choose_accelerator(host).accelerator == "tcg"


def test_the_probe_happens_once(host, fake_qemu):
    starts = fake_qemu("echo Linux version 6.12")
    assert choose_accelerator(host) == choose_accelerator(host)
    assert len(starts.read_text().splitlines()) == 1


def test_another_qemu_is_probed_anew(host, fake_qemu):
    fake_qemu("exit 1")
    assert choose_accelerator(host).accelerator == "tcg"
    fake_qemu("echo Linux version 6.12")
    assert choose_accelerator(host).accelerator == "kvm"


def test_a_device_that_only_root_may_open_means_emulation(host, device, fake_qemu):
    starts = fake_qemu("echo Linux version 6.12")
    device.chmod(0o600)
    assert choose_accelerator(host).accelerator == "tcg"
    assert starts.read_text() == ""


def test_no_group_is_needed_where_everybody_may_open_the_device(device):
    assert kvm_groups() == (KVM_GROUP,)
    device.chmod(0o666)
    assert kvm_groups() == ()
    device.chmod(0o660)
    os.chown(device, 0, 0)
    assert kvm_groups() is None


def test_without_a_kernel_nothing_is_decided_for_good(host, fake_qemu):
    starts = fake_qemu("echo Linux version 6.12")
    kernel = host.paths.kernel("cccccccccccc") / "vmlinux"
    kernel.rename(kernel.with_name("away"))
    assert choose_accelerator(host).accelerator == "tcg"
    kernel.with_name("away").rename(kernel)
    assert choose_accelerator(host).accelerator == "kvm"
    assert len(starts.read_text().splitlines()) == 1


def test_the_policy_overrides(host, device):
    device.unlink()
    assert choose_accelerator(host).accelerator == "tcg"
    forced = root_host(host.policy.model_copy(update={"accelerator": "kvm"}))
    assert choose_accelerator(forced) == ("kvm", "root's policy says so")
