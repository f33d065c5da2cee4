"""A host that VMMs can be launched on, in namespaces of its own, with cgroups beside ours."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from disks import SLOT, UID, VM, make_host
from mountns import private_mounts
from netns import private_network
from tiny_kernel import tiny_kernel

from banger.contracts.keeper_plan import KeeperPlan
from banger.contracts.requests import LaunchRequest, TapRequest
from banger.contracts.vmm import WantedVmm
from banger.contracts.vmm_limits import Controller
from banger.embedded import network, vmm_root
from banger.settings import Settings
from root_worker.host import RootHost, root_host
from root_worker.ops import serial_log
from root_worker.ops.spawn import spawn
from root_worker.stages import tap
from root_worker.vmm import cgroups, processes
from root_worker.vmm.jail import locked

KERNEL = "cccccccccccc"
GREETING = "a tiny guest is up"
DEADLINE_S = 10
MIB = 1024 * 1024


@contextlib.contextmanager
def vmm_host() -> Iterator[RootHost]:
    """Yield a host with an admitted VM and its disks; whatever was launched is dead afterwards."""
    with private_network():
        state = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="banger-test-launch-"))
        state.chmod(0o711)  # pytest's own directories are closed to the VM's uid
        made = make_host(state)
        made = root_host(made.policy.model_copy(update={"accelerator": "tcg", "serial_log_mib": 1}))
        install_kernel(made, tiny_kernel(GREETING))
        made.registry.admit(VM, 1, SLOT)
        made.registry.update(VM, disk_backend="file")
        for disk in (made.paths.overlay(VM), made.paths.work_disk(VM)):
            disk.touch()
            os.truncate(disk, 1024 * 1024)
            os.chown(disk, UID, UID)
        try:
            with private_mounts():
                vmm_root.make(made.paths.vmm_root, made.paths.kernels)
                yield made
        finally:
            processes.end(UID, "KILL")
            cgroups.remove(made.paths, VM)
            for group in Path("/sys/fs/cgroup").glob(f"**/{made.paths.cgroups}"):
                group.rmdir()
            shutil.rmtree(state)


def with_tap(host: RootHost) -> RootHost:
    """Give the VM its tap."""
    network.ensure(Settings(host="here"))
    tap.do(TapRequest(vm_id=VM, generation=1, slot=SLOT, nat=False), host)
    return host


def install_kernel(host: RootHost, kernel: bytes) -> None:
    directory = host.paths.kernel(KERNEL)
    directory.mkdir(exist_ok=True)
    (directory / "vmlinux").write_bytes(kernel)
    (directory / "initrd.img").write_bytes(b"\0" * 512)


def request(
    generation: int = 1,
    memory_mib: int = 64,
    vcpus: int = 1,
    expires_at: float | None = None,
    vmm: WantedVmm = "auto",
) -> LaunchRequest:
    return LaunchRequest(
        vm_id=VM,
        generation=generation,
        slot=SLOT,
        kernel=KERNEL,
        vcpus=vcpus,
        memory_mib=memory_mib,
        expires_at=expires_at,
        vmm=vmm,
    )


def run(
    host: RootHost,
    *argv: str,
    fds: tuple[int, ...] = (),
    log_bytes: int = MIB,
    limits: dict[Controller, int] | None = None,
    lives_s: float | None = None,
) -> int | None:
    """Start a program as a VMM would be, with these descriptors; return its pid where it lives."""
    with (
        locked(host.paths, VM) as jail,
        serial_log.opened(host, VM, UID) as log,
        cgroups.limited(host.paths, VM, limits or {}) as doors,
    ):
        plan = KeeperPlan(argv, fds, doors.fds, jail.lock_fd, log.newer, log.older, log_bytes, lives_s)
        spawn(host.paths, VM, UID, (), plan)
    return pids()[0]


def pids() -> tuple[int | None, int | None]:
    """Return the VMM's pid and the keeper's, None for one that does not live."""
    with processes.held(UID) as alive:
        vmm = next((one.pid for one in alive if one.is_vmm), None)
        return vmm, next((one.pid for one in alive if not one.is_vmm), None)


def log_of(host: RootHost) -> str:
    return host.paths.serial_log(VM).read_text(errors="replace")


def eventually(holds: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def open_files(pid: int | None) -> list[str]:
    """Return what a process holds open, by name; it may go on while we look."""
    names = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(fd.readlink()))
    return names
