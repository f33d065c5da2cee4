"""Root's inventory of real objects: each kind as a VM's own, as a stray, and as somebody else's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from disks import UID, UID_BASE, VM
from pyroute2 import IPRoute
from vmm_host import eventually, run, with_tap

from banger.contracts.inventory import Found, Inventory, Kind
from banger.contracts.names import HostPaths, tap_name
from banger.contracts.requests import TapRequest
from banger.contracts.vmm_limits import limits
from root_worker.host import RootHost
from root_worker.inventory import Stock
from root_worker.ops import loop
from root_worker.stages import tap
from root_worker.vmm import cgroups, jail, processes

pytestmark = pytest.mark.integration

ME = "f" * 12
LOST = "ba9876543210"
LOST_SLOT = 9


@pytest.fixture(scope="module")
def host(launching_host: RootHost) -> RootHost:
    return with_tap(launching_host)


def inventory(host: RootHost) -> Inventory:
    found = Stock(host, ME).take()
    assert not found.unreadable
    return found


def has(host: RootHost) -> set[Kind]:
    (vm,) = inventory(host).vms
    return set(vm.has)


@contextmanager
def process_of(uid: int, *argv: str) -> Iterator[str]:
    started = subprocess.Popen(["/usr/bin/setpriv", f"--reuid={uid}", "--clear-groups", "--", *argv])
    try:
        eventually(lambda: Path(f"/proc/{started.pid}").stat().st_uid == uid)
        yield str(started.pid)
    finally:
        started.kill()
        started.wait()


@contextmanager
def losetup(file: Path) -> Iterator[str]:
    device = subprocess.run(
        ["/usr/sbin/losetup", "--find", "--show", str(file)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        yield Path(device).name
    finally:
        subprocess.run(["/usr/sbin/losetup", "--detach", device], check=True)


def overlay(host: RootHost, vm_id: str) -> Path:
    file = host.paths.overlay(vm_id)
    file.parent.mkdir(exist_ok=True)
    file.touch()
    os.truncate(file, 1024 * 1024)
    return file


@contextmanager
def attached(file: Path) -> Iterator[str]:
    fd = os.open(file, os.O_RDWR)
    try:
        with loop.attached(fd, read_only=False) as device:
            yield device.name
    finally:
        os.close(fd)


def test_a_vm_has_what_there_is_of_it(host: RootHost) -> None:
    assert has(host) == {"tap", "filter"}
    run(host, "/usr/bin/sleep", "60", limits=limits(vcpus=1, memory_mib=64))
    try:
        assert has(host) == {"tap", "filter", "jail", "process", "cgroup"}
        with attached(overlay(host, VM)):
            assert "loop" in has(host)
        found = inventory(host)
        assert found.vms[0].alive
        assert (found.strays, found.foreign) == ((), ())
    finally:
        processes.end(UID, "KILL")
        cgroups.remove(host.paths, VM)
        with jail.locked(host.paths, VM) as locked:
            jail.remove(locked)
    assert has(host) == {"tap", "filter"}


def test_what_the_registry_does_not_know_is_a_stray(host: RootHost) -> None:
    tap.do(TapRequest(vm_id=LOST, generation=1, slot=LOST_SLOT, nat=False), host)
    with ExitStack() as stack:
        device = stack.enter_context(attached(overlay(host, LOST)))
        with jail.locked(host.paths, LOST), cgroups.limited(host.paths, LOST, limits(vcpus=1, memory_mib=64)):
            pass
        stack.callback(cgroups.remove, host.paths, LOST)
        keeper = stack.enter_context(
            process_of(
                UID_BASE + LOST_SLOT,
                "/usr/bin/python3",
                "-c",
                "import time; time.sleep(60)",
                f"banger-{LOST}",
            )
        )
        assert "tap" in {kind for vm in inventory(host).vms if vm.vm_id == LOST for kind in vm.has}
        host.registry.forget(LOST)
        found = inventory(host)
        assert {vm.vm_id for vm in found.vms} == {VM}
        name = tap_name(LOST)
        strays = {stray.kind: stray for stray in found.strays}
        assert strays == {
            "tap": Found(kind="tap", name=name, vm_id=LOST, slot=LOST_SLOT),
            "filter": Found(kind="filter", name=name, vm_id=LOST),
            "loop": Found(kind="loop", name=device, vm_id=LOST),
            "jail": Found(kind="jail", name=LOST, vm_id=LOST),
            "cgroup": Found(kind="cgroup", name=LOST, vm_id=LOST),
            "process": Found(kind="process", name=keeper, vm_id=LOST, slot=LOST_SLOT),
        }
        assert found.foreign == ()
    host.registry.admit(LOST, 1, LOST_SLOT)
    tap.undo(tap.UndoRequest(vm_id=LOST, generation=1), host)
    with jail.locked(host.paths, LOST) as locked:
        jail.remove(locked)
    host.registry.forget(LOST)
    assert inventory(host).strays == ()


def test_a_filter_alone_is_a_stray_that_does_not_tell_its_vm(host: RootHost) -> None:
    subprocess.run(["/usr/sbin/nft", "add chain bridge banger bgr-ba987654321"], check=True)
    assert inventory(host).strays == (Found(kind="filter", name="bgr-ba987654321"),)
    subprocess.run(["/usr/sbin/nft", "delete chain bridge banger bgr-ba987654321"], check=True)


def test_what_is_named_like_ours_by_somebody_else_is_foreign(host: RootHost) -> None:
    with ExitStack() as stack:
        ip = stack.enter_context(IPRoute())
        ip.link("add", ifname="bgr-ba987654321", kind="tuntap", mode="tap")
        ip.link("add", ifname="bgr-office", kind="bridge")
        subprocess.run(["/usr/sbin/nft", "add chain bridge banger bgr-office"], check=True)
        device = stack.enter_context(losetup(overlay(host, VM)))
        (host.paths.jails / "notes").mkdir(parents=True)
        theirs = cgroups.group_of(host.paths, "memory", "theirs")[0]
        theirs.mkdir(parents=True)
        try:
            found = inventory(host)
            assert {(one.kind, one.name) for one in found.foreign} == {
                ("tap", "bgr-ba987654321"),
                ("tap", "bgr-office"),
                ("filter", "bgr-office"),
                ("loop", device),
                ("jail", "notes"),
                ("cgroup", "theirs"),
            }
            assert found.strays == ()
            assert "loop" not in found.vms[0].has
        finally:
            for name in ("bgr-ba987654321", "bgr-office"):
                ip.link("del", ifname=name)
            subprocess.run(["/usr/sbin/nft", "delete chain bridge banger bgr-office"], check=True)
            (host.paths.jails / "notes").rmdir()
            theirs.rmdir()


def test_the_cgroup_of_another_farms_vm_is_none_of_ours(host: RootHost) -> None:
    theirs = HostPaths(Path("/somewhere/else"), Path("/run/else"))
    with cgroups.limited(theirs, LOST, limits(vcpus=1, memory_mib=64)):
        found = inventory(host)
    assert (found.strays, found.foreign) == ((), ())
    cgroups.remove(theirs, LOST)
    for group in Path("/sys/fs/cgroup").glob(f"**/{theirs.cgroups}"):
        group.rmdir()


def test_a_process_beside_the_slots_uids_is_nothing_of_ours(host: RootHost) -> None:
    with process_of(UID_BASE + 300, "/usr/bin/sleep", "60"), process_of(UID_BASE - 1, "/usr/bin/sleep", "60"):
        assert inventory(host).strays == ()
