"""Which accelerator a host's VMMs run with: decided by a boot, never by a device that opens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disks import UID_BASE, make_host
from tiny_kernel import tiny_kernel

import banger.accelerator
from banger.accelerator import probe
from banger.contracts import accelerator, qemu
from banger.contracts.accelerator import groups_needed
from banger.settings import Settings
from root_worker.host import RootHost, root_host
from root_worker.ops.accelerator import choose_accelerator

pytestmark = pytest.mark.integration

KVM_GROUP = 12345
SPEAKS = "echo Kernel panic"


@pytest.fixture
def device(tmp_path: Path, monkeypatch) -> Path:
    """A /dev/kvm of our own that a group may open."""
    path = tmp_path / "kvm"
    path.touch()
    path.chmod(0o660)
    os.chown(path, 0, KVM_GROUP)
    monkeypatch.setattr(accelerator, "KVM", path)
    return path


@pytest.fixture
def host(tmp_path: Path, device: Path) -> RootHost:
    made = make_host(tmp_path / "state")
    kernel = made.paths.kernel("cccccccccccc")
    kernel.mkdir()
    (kernel / "vmlinux").write_bytes(tiny_kernel("x"))
    return made


@pytest.fixture
def settings(host: RootHost) -> Settings:
    """The same host, as the front knows it."""
    return Settings(
        host="here", state_dir=host.policy.state_dir, run_dir=host.policy.run_dir, uid_base=UID_BASE
    )


@pytest.fixture
def fake_qemu(monkeypatch) -> Iterator[Callable[[str], Path]]:
    """Put a script in QEMU's place; each boot of it adds a line to the file that is returned."""
    directory = Path("/var/tmp") / f"banger-fake-qemu-{os.getpid()}"
    directory.mkdir(mode=0o755)
    starts = directory / "starts"

    def install(body: str) -> Path:
        starts.touch()
        starts.chmod(0o666)
        script = directory / "qemu"
        script.write_text(f"#!/bin/sh\n[ $1 != --version ] || exit 0\nid >> {starts}\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setattr(qemu, "BINARY", script)
        return starts

    yield install
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


def test_a_boot_that_panics_and_ends_proves_kvm(host, settings, fake_qemu):
    starts = fake_qemu(SPEAKS)
    assert choose_accelerator(host) == ("tcg", ()), "nothing is proven yet"
    probe(settings)
    assert choose_accelerator(host) == ("kvm", (KVM_GROUP,))
    assert starts.read_text() == (f"uid={UID_BASE} gid={UID_BASE} groups={UID_BASE},{KVM_GROUP}\n"), (
        "as a VMM would run"
    )


def test_the_probe_is_given_a_kernel_that_it_can_read(settings, fake_qemu):
    fake_qemu(f'while [ "$1" != -kernel ]; do shift; done; [ -s "$2" ] && {SPEAKS}')
    assert probe(settings).works


def test_a_boot_that_hangs_means_emulation(host, settings, fake_qemu, monkeypatch):
    monkeypatch.setattr(banger.accelerator, "PROBE_DEADLINE_S", 0.2)
    monkeypatch.setattr(banger.accelerator, "PATIENCE", 0)
    fake_qemu("exec sleep 60")
    started = time.monotonic()
    assert "did not end" in probe(settings).reason
    assert time.monotonic() - started < 2
    assert choose_accelerator(host).accelerator == "tcg"


def test_a_host_that_is_slow_itself_gets_the_time_that_it_needs(settings, fake_qemu, monkeypatch):
    monkeypatch.setattr(banger.accelerator, "PROBE_DEADLINE_S", 0.1)
    monkeypatch.setattr(banger.accelerator, "PATIENCE", 10_000)
    fake_qemu(f"sleep 0.5; {SPEAKS}")
    assert probe(settings).works


@pytest.mark.parametrize("body", ["exit 1", "exit 0", "kill -ABRT $$"])
def test_a_boot_without_a_word_from_the_kernel_means_emulation(host, settings, fake_qemu, body):
    fake_qemu(body)
    assert not probe(settings).works
    assert choose_accelerator(host).accelerator == "tcg"


def test_the_probe_happens_once(settings, fake_qemu):
    starts = fake_qemu(SPEAKS)
    assert probe(settings) == probe(settings)
    assert len(starts.read_text().splitlines()) == 1


def test_another_qemu_is_probed_anew(host, settings, fake_qemu):
    fake_qemu("exit 1")
    probe(settings)
    assert choose_accelerator(host).accelerator == "tcg"
    fake_qemu(SPEAKS)
    probe(settings)
    assert choose_accelerator(host).accelerator == "kvm"


def test_a_verdict_of_before_the_reboot_is_none(host, settings, fake_qemu):
    fake_qemu(SPEAKS)
    found = probe(settings)
    settings.paths.accelerator.write_text(found.model_copy(update={"boot_id": "before"}).model_dump_json())
    assert choose_accelerator(host).accelerator == "tcg"
    assert probe(settings) == found


def test_a_device_that_only_root_may_open_means_emulation(host, settings, device, fake_qemu):
    starts = fake_qemu(SPEAKS)
    probe(settings)
    device.chmod(0o600)
    assert choose_accelerator(host).accelerator == "tcg", "whatever the verdict says"
    settings.paths.accelerator.unlink()
    assert probe(settings) is None
    assert len(starts.read_text().splitlines()) == 1


def test_no_group_is_needed_where_everybody_may_open_the_device(device):
    assert groups_needed(device.stat()) == (KVM_GROUP,)
    device.chmod(0o666)
    assert groups_needed(device.stat()) == ()
    device.chmod(0o660)
    os.chown(device, 0, 0)
    assert groups_needed(device.stat()) is None


def test_without_a_kernel_nothing_is_decided_for_good(host, settings, fake_qemu):
    starts = fake_qemu(SPEAKS)
    kernel = host.paths.kernel("cccccccccccc") / "vmlinux"
    kernel.rename(kernel.with_name("away"))
    assert probe(settings) is None
    kernel.with_name("away").rename(kernel)
    assert probe(settings).works
    assert len(starts.read_text().splitlines()) == 1


def test_the_policy_overrides(host, device):
    device.unlink()
    assert choose_accelerator(host) == ("tcg", ())
    forced = root_host(host.policy.model_copy(update={"accelerator": "kvm"}))
    assert choose_accelerator(forced) == ("kvm", ())
