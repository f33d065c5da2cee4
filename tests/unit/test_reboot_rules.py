"""A reboot is noticed, and noted once what ran at that time is dealt with."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from farm_facts import VM, job

from banger.contracts import boot as boot_contract
from banger.contracts.inventory import Inventory
from banger.contracts.names import HostPaths, is_id
from banger.findings import Action, Finding
from banger.pipelines import BATCH_JOB, CREATE, DELETE, RESTART, RUN, STOP, Pipeline
from workers import new_file
from workers.reboot import Reboot, to_do_again

GONE = [Finding(vm_id=VM, what="its VMM is gone", action=Action.RESTART)]
RINGS = [Finding(vm_id=VM, what="nobody is at it", action=Action.RING)]


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "vms").mkdir()
    (tmp_path / "boot").write_text("two\n")
    monkeypatch.setattr(boot_contract, "BOOT_ID", tmp_path / "boot")
    return tmp_path / "boot"


@pytest.fixture
def reboot(boot: Path) -> Reboot:
    """A host that was rebooted."""
    (boot.parent / "vms" / ".boot-id").write_text("one")
    return Reboot(HostPaths(boot.parent, boot.parent))


def seen(at: float, *unreadable: str) -> Inventory:
    return Inventory(at=at, incarnation="a" * 12, vms=(), unreadable=unreadable)


def test_a_new_host_was_not_rebooted(boot: Path) -> None:
    reboot = Reboot(HostPaths(boot.parent, boot.parent))
    assert not reboot.pending
    reboot.looked([], seen(100))
    assert (boot.parent / "vms" / ".boot-id").read_text() == "two"
    boot.write_text("three\n")
    assert reboot.pending


def test_a_reboot_is_noted_once_root_has_looked_since_and_nothing_is_left(reboot: Reboot, boot: Path) -> None:
    reboot.looked([], seen(100))  # what root said may be from before the reboot
    assert reboot.pending
    reboot.looked(GONE, seen(106))
    assert reboot.pending
    reboot.looked(RINGS, seen(111))
    assert not reboot.pending
    assert (boot.parent / "vms" / ".boot-id").stat().st_mode & 0o777 == 0o600


def test_a_reboot_is_not_noted_while_not_all_can_be_seen(reboot: Reboot) -> None:
    for at in (100, 106, 112):
        reboot.looked([], seen(at, "processes: EIO"))
        reboot.looked([], None)
    assert reboot.pending


def test_a_clock_that_is_set_back_does_not_put_off_the_note(reboot: Reboot) -> None:
    for at in (9000, 100, 106):
        reboot.looked([], seen(at))
    assert not reboot.pending


def test_a_full_disk_does_not_end_the_look(reboot: Reboot, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(new_file, "sync", full)
    for at in (100, 106):
        reboot.looked([], seen(at))
    assert reboot.pending


@pytest.mark.parametrize(
    ("pipeline", "steps", "again"),
    [
        (RESTART, {"00": "done", "05": "done", "08": "h|1|1"}, ["00", "05"]),
        (CREATE, {"01": "done", "07": "done", "08": "h|1|2"}, ["01", "07"]),
        (CREATE, {}, []),
        (RUN, {"07": "done", "08": "h|1|1"}, ["07"]),
        (RUN, {"08": "done", "10": "h|1|1"}, []),  # its command has begun
        (BATCH_JOB, {"08": "done", "10": "done"}, ["08", "10"]),  # its upload is there
        (BATCH_JOB, {"08": "done", "11": "done", "12": "h|1|1"}, []),
        (STOP, {"00": "done", "01": "done"}, []),
        (DELETE, {"00": "done", "05": "done"}, []),
    ],
)
def test_what_starts_a_vm_does_all_of_it_again_after_a_reboot(
    pipeline: Pipeline, steps: dict[str, str], again: list[str]
) -> None:
    assert to_do_again(job(pipeline, steps=steps, boot="one")) == again
    assert to_do_again(job(pipeline, steps=steps)) == [], "nobody noted in which boot that was done"


def test_a_vm_is_booted_again_by_one_job_a_boot(reboot: Reboot, boot: Path) -> None:
    first = reboot.job(VM)
    assert is_id(first)
    assert reboot.job(VM) == first != reboot.job("f" * 12)
    boot.write_text("three\n")
    assert reboot.job(VM) != first
