"""Root's own memory: fences, slots, and what survives."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from banger.contracts.errors import PolicyError, StageFailedError, StaleGenerationError
from root_worker.registry import Registry

A, B = "a" * 12, "b" * 12


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def test_an_older_generation_is_refused(registry: Registry) -> None:
    registry.admit(A, 2, 5)
    with pytest.raises(StaleGenerationError):
        registry.admit(A, 1, 5)


def test_a_newer_generation_moves_the_fence(registry: Registry) -> None:
    registry.admit(A, 1, 5)
    assert registry.admit(A, 3).generation == 3
    assert Registry(registry._directory).get(A).generation == 3  # type: ignore[union-attr]


def test_a_slot_belongs_to_one_vm(registry: Registry) -> None:
    registry.admit(A, 1, 5)
    with pytest.raises(PolicyError, match="belongs to VM"):
        registry.admit(B, 1, 5)
    with pytest.raises(PolicyError, match="has slot 5"):
        registry.admit(A, 1, 6)


def test_a_forgotten_vm_frees_its_slot_and_may_be_forgotten_twice(registry: Registry) -> None:
    registry.admit(A, 1, 5)
    registry.forget(A)
    registry.forget(A)
    assert registry.admit(B, 1, 5).slot == 5


def test_what_a_full_disk_left_of_an_entry_goes_with_it(registry: Registry, tmp_path: Path) -> None:
    registry.admit(A, 1)
    (left,) = (file.with_suffix(".new") for file in tmp_path.rglob(f"{A}.json"))
    left.touch()
    registry.forget(A)
    assert not left.exists()


def test_what_was_left_of_an_entry_that_never_came_to_be_goes_with_the_first_undo(
    registry: Registry, tmp_path: Path
) -> None:
    registry.admit(A, 1)
    (file,) = tmp_path.rglob(f"{A}.json")
    left = file.rename(file.with_suffix(".new"))  # as a worker leaves it that is killed before the rename
    assert registry.fence(A, 1) is None
    assert not left.exists()


def test_only_admitted_vms_are_changed(registry: Registry) -> None:
    with pytest.raises(PolicyError, match="not in root's registry"):
        registry.update(A, disk_backend="file")


def test_what_root_does_not_know_is_not_its_to_remove(registry: Registry) -> None:
    assert registry.fence(A, 1) is None
    assert registry.get(A) is None
    registry.admit(A, 2, 5)
    with pytest.raises(StaleGenerationError):
        registry.fence(A, 1)
    entry = registry.fence(A, 3)
    assert entry is not None
    assert (entry.generation, entry.slot) == (3, 5)


def test_all_vms_together_stay_within_the_hosts_limits(registry: Registry) -> None:
    for number, vm_id in enumerate((A, B)):
        registry.admit(vm_id, 1, 5 + number)
    registry.update(A, (4, 1024), vcpus=3, memory_mib=600)
    with pytest.raises(PolicyError, match="5 vCPUs and 700 MiB"):
        registry.update(B, (4, 1024), vcpus=2, memory_mib=100)
    with pytest.raises(PolicyError, match="1200 MiB"):
        registry.update(B, (4, 1024), vcpus=1, memory_mib=600)
    registry.update(A, (4, 1024), vcpus=4, memory_mib=1024)  # its own are not counted twice


def test_the_ballast_is_held_while_there_is_room_and_given_up_by_halves(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> int:
        return (tmp_path / "registry/.ballast").stat().st_blocks * 512 // (1024 * 1024)

    free = SimpleNamespace(f_bavail=1 << 20, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    registry.keep_ballast()
    assert held() == 16
    free.f_bavail = 0
    for left in (8, 4, 2, 1):
        registry.keep_ballast()
        assert held() == left
    free.f_bavail = 1 << 10  # some room, and not enough to hold any of it
    registry.keep_ballast()
    assert held() == 1
    free.f_bavail = 1 << 20
    registry.keep_ballast()
    assert held() == 16


def test_a_snapshot_rests_on_the_image_it_was_made_of_as_that_was(registry: Registry) -> None:
    for number, vm_id in enumerate((A, B)):
        registry.admit(vm_id, 1, 5 + number)
    registry.rest(A, "a" * 12, "4096 17")
    registry.rest(A, "a" * 12, "4096 17")
    for vm_id in (A, B):  # its own, and one that was never attached before
        with pytest.raises(StageFailedError, match=f"has changed since VM {A}") as caught:
            registry.rest(vm_id, "a" * 12, "4096 18")
        assert "then 4096 17, now 4096 18" in caught.value.details
    registry.rest(B, "b" * 12, "4096 18")
    with pytest.raises(PolicyError, match="rests on image"):
        registry.rest(A, "b" * 12, "4096 18")
