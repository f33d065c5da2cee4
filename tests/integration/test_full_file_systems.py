"""A file system that has no room for what root writes: the file is named, and no defect or intrusion told."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
from mountns import private_mounts

from banger.contracts.errors import BangerError, CapacityError, as_banger_error
from banger.contracts.requests import AdmitRequest
from root_worker.host import RootHost
from root_worker.ops import serial_log
from root_worker.stages import admit

pytestmark = pytest.mark.integration


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RootHost]:
    with private_mounts():
        yield disks.make_host(tmp_path / "state")


def mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", place], check=True)


@contextlib.contextmanager
def told() -> Iterator[list[BangerError]]:
    """Yield where the error that ends the block stands afterwards, as a runner tells it."""
    errors: list[BangerError] = []
    try:
        yield errors
    except Exception as error:
        errors.append(as_banger_error(error))


def test_a_registry_that_cannot_grow(host: RootHost) -> None:
    mount(host.paths.registry, "mode=0700,size=16k")
    with contextlib.suppress(OSError):
        (host.paths.registry / "filler").write_bytes(bytes(64 * 1024))
    with told() as errors:
        admit.do(AdmitRequest(vm_id=disks.VM, generation=1, slot=disks.SLOT), host)
    (error,) = errors
    assert isinstance(error, CapacityError)
    assert f"{host.paths.registry}/{disks.VM}" in error.brief
    (host.paths.registry / "filler").unlink()
    admit.do(AdmitRequest(vm_id=disks.VM, generation=1, slot=disks.SLOT), host)


def test_a_file_system_without_a_free_inode(host: RootHost) -> None:
    place = host.paths.vm(disks.VM)
    mount(place, f"mode=0711,uid={disks.WORKER.pw_uid},nr_inodes=2")
    (place / "filler").touch()
    with told() as errors, serial_log.opened(host, disks.VM, disks.UID):
        pytest.fail("it was opened")
    (error,) = errors
    assert isinstance(error, CapacityError)
    assert "serial.log" in error.brief
