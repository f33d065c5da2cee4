"""The same limits in both versions of cgroups, in trees of plain files that stand for the kernel's."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from banger.contracts.names import HostPaths
from banger.contracts.vmm_limits import SWAP_FILES, limits
from root_worker.vmm import cgroups

VM = "0123456789ab"
PATHS = HostPaths(Path("/var/lib/banger"), Path("/run/banger"))
PARENT = "banger-var-lib-banger"
LIMITS = limits(vcpus=2, memory_mib=1024)


@pytest.fixture
def files() -> list[str]:
    """What the kernel puts into each cgroup, whether it counts swap or not."""
    return ["cgroup.procs", "cgroup.subtree_control"]


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str]) -> Path:
    """Where these tests say what is mounted. The kernel makes a cgroup's files; here each group has them."""
    made = Path.mkdir

    def with_files(group: Path, *args: object, **kwargs: object) -> None:
        made(group, parents=True, exist_ok=True)
        for file in files:
            (group / file).touch()

    monkeypatch.setattr(Path, "mkdir", with_files)
    monkeypatch.setattr(cgroups, "_MOUNTS", tmp_path / "mounts")
    return tmp_path / "mounts"


def version_1(tmp_path: Path) -> str:
    return "".join(
        f"cgroup {tmp_path / name} cgroup rw,relatime,{options} 0 0\n"
        for name, options in {"memory": "memory", "pids": "pids", "cpu": "cpu,cpuacct"}.items()
    )


def version_2(tmp_path: Path, controllers: str) -> str:
    (tmp_path / "unified").mkdir(exist_ok=True)
    (tmp_path / "unified/cgroup.controllers").write_text(controllers)
    return f"cgroup2 {tmp_path / 'unified'} cgroup2 rw 0 0\n"


def test_version_1_has_a_hierarchy_for_each(tmp_path, mounts):
    mounts.write_text(version_2(tmp_path, "hugetlb\n") + version_1(tmp_path))
    with cgroups.limited(PATHS, VM, LIMITS) as doors:
        assert set(doors.limits) == {"memory", "pids", "cpu"}
    found = {path.name: path.read_text() for path in tmp_path.glob(f"*/{PARENT}/{VM}/*") if path.read_text()}
    assert found == {
        "memory.limit_in_bytes": str((1024 + 4 + 256) * 1024 * 1024),
        "pids.max": "162",
        "cpu.cfs_quota_us": "200000",
    }


def test_version_2_has_one_and_its_controllers_are_switched_on(tmp_path, mounts):
    mounts.write_text(version_2(tmp_path, "cpuset cpu io memory pids\n"))
    with cgroups.limited(PATHS, VM, LIMITS) as doors:
        assert set(doors.limits) == {"memory", "pids", "cpu"}
    group = tmp_path / "unified" / PARENT / VM
    assert {file: (group / file).read_text() for file in ("memory.max", "pids.max", "cpu.max")} == {
        "memory.max": str((1024 + 4 + 256) * 1024 * 1024),
        "pids.max": "162",
        "cpu.max": "200000",
    }
    for parent in (tmp_path / "unified", tmp_path / "unified" / PARENT):
        assert (parent / "cgroup.subtree_control").read_text() == "+cpu"


def test_none_of_a_vms_memory_is_swapped_out_where_the_kernel_counts_that(tmp_path, mounts, files):
    files += SWAP_FILES
    mounts.write_text(version_1(tmp_path))
    with cgroups.limited(PATHS, VM, LIMITS):
        group = tmp_path / "memory" / PARENT / VM
        together, memory = ((group / name).read_text() for name in (SWAP_FILES[0], "memory.limit_in_bytes"))
        assert together == memory
        assert not (tmp_path / "pids" / PARENT / VM / SWAP_FILES[0]).read_text()
    mounts.write_text(version_2(tmp_path, "cpu memory pids\n"))
    with cgroups.limited(PATHS, VM, LIMITS):
        assert (tmp_path / "unified" / PARENT / VM / SWAP_FILES[1]).read_text() == "0"


def test_without_controllers_there_is_no_limit_and_it_is_said(tmp_path, mounts, caplog):
    mounts.write_text(version_2(tmp_path, "cpu\n"))
    with caplog.at_level(logging.WARNING), cgroups.limited(PATHS, VM, LIMITS) as doors:
        assert set(doors.limits) == {"cpu"}
    assert "without a limit of memory" in caplog.text
    mounts.write_text("")
    cgroups.remove(PATHS, VM)
