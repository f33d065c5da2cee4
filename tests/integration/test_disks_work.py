"""The worker's disks: VM directory, overlay, work disk in its four ways, growth."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import disks
import pytest

from banger.contracts.errors import (
    CapacityError,
    ImageDamagedError,
    InvalidInputError,
    NotFoundError,
    StageFailedError,
    ToolFailedError,
)
from banger.contracts.names import HostPaths
from banger.contracts.requests import GrowWorkDiskRequest, OverlayRequest, WorkDiskRequest
from banger.images.manifest import ImageManifest, KernelManifest, digest_file
from banger.shell import find_tool, run
from workers import intents
from workers.new_file import new_file
from workers.stages import grow_work_disk, overlay, work_disk

pytestmark = pytest.mark.integration

PUBLIC_KEY = "ssh-ed25519 AAAAC3Nza farm\n"


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An XFS of our own, where clones share blocks."""
    home = tmp_path_factory.mktemp("xfs")
    image, mount = home / "xfs.img", home / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * disks.MIB)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)
    image.unlink()


def make_paths(home: Path) -> HostPaths:
    paths = HostPaths(home / "state", home / "run")
    for directory in (paths.vms, paths.keys, paths.image(disks.IMAGE), paths.verified):
        directory.mkdir(parents=True)
    (paths.keys / "id_ed25519.pub").write_text(PUBLIC_KEY)
    return paths


def seal_image(paths: HostPaths, rootfs: bytes = b"rootfs", hole_mib: int = 0) -> str:
    """Make a small image whose digests are right, and return its id."""
    now = datetime.now(tz=UTC)
    scratch = paths.state / "rootfs.ext4"
    scratch.write_bytes(rootfs)
    os.truncate(scratch, len(rootfs) + hole_mib * disks.MIB)
    kernel = KernelManifest.seal(version="6.1", suite="bookworm", architecture="amd64", created=now, files={})
    manifest = ImageManifest.seal(
        name="tiny",
        suite="bookworm",
        packages=(),
        architecture="amd64",
        kernel=kernel.id,
        rootfs=digest_file(scratch),
        work_seed=None,
        ssh="dropbear",
        created=now,
    )
    for directory, sealed in ((paths.image(manifest.id), manifest), (paths.kernel(kernel.id), kernel)):
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_text(sealed.model_dump_json())
    scratch.rename(paths.rootfs(manifest.id))
    return manifest.id


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return make_paths(tmp_path)


@pytest.fixture
def image(paths: HostPaths) -> str:
    return seal_image(paths)


def overlay_request(image: str, overlay_mib: int = 64) -> OverlayRequest:
    return OverlayRequest(vm_id=disks.VM, generation=1, image=image, overlay_mib=overlay_mib)


def work_disk_request(disk_mib: int) -> WorkDiskRequest:
    return WorkDiskRequest(vm_id=disks.VM, generation=1, image=disks.IMAGE, disk_mib=disk_mib)


def make_seed(paths: HostPaths, size_mib: int = 16) -> None:
    tree = paths.state / "seed"
    tree.mkdir()
    (tree / ".profile").write_text("umask 077\n")
    seed = paths.work_seed(disks.IMAGE)
    subprocess.run(["mkfs.ext4", "-q", "-d", tree, seed, f"{size_mib}M"], check=True)


def vm_directory(paths: HostPaths) -> Path:
    intents.make_directory(paths.vm(disks.VM))
    return paths.vm(disks.VM)


# --- overlay -------------------------------------------------------------------------------------


def test_the_vms_directory_holds_all_that_later_stages_need(paths: HostPaths, image: str) -> None:
    vm_directory(paths)
    overlay.do(overlay_request(image), disks.context(paths))
    vm = paths.vm(disks.VM)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (vm, *vm.iterdir())}
    assert modes == {
        disks.VM: 0o711,
        "known_hosts": 0o644,
        "overlay.img": 0o600,
        "ssh_host_ed25519_key": 0o600,
        "ssh_host_ed25519_key.pub": 0o644,
    }
    alias, kind, material = paths.known_hosts(disks.VM).read_text().split()
    assert alias == f"banger-{disks.VM}"
    assert (vm / "ssh_host_ed25519_key.pub").read_text() == f"{kind} {material} {alias}\n"


def test_a_second_do_keeps_the_key_and_the_overlay(paths: HostPaths, image: str) -> None:
    vm_directory(paths)
    overlay.do(overlay_request(image), disks.context(paths))
    paths.overlay(disks.VM).write_bytes(b"the guest's")
    key = paths.host_key(disks.VM).read_bytes()
    (paths.vm(disks.VM) / "known_hosts.new").write_text("half")
    overlay.do(overlay_request(image), disks.context(paths))
    assert paths.overlay(disks.VM).read_bytes() == b"the guest's"
    assert paths.host_key(disks.VM).read_bytes() == key
    assert not list(paths.vm(disks.VM).glob("*.new*"))


def test_undo_before_half_of_and_after_do(paths: HostPaths, image: str) -> None:
    context = disks.context(paths)
    overlay.undo(disks.undo_request(), context)
    (vm_directory(paths) / "overlay.img.new").write_bytes(b"half")
    overlay.undo(disks.undo_request(), context)
    vm_directory(paths)
    overlay.do(overlay_request(image), context)
    overlay.undo(disks.undo_request(), context)
    overlay.undo(disks.undo_request(), context)
    assert list(paths.vms.iterdir()) == []


def test_an_image_that_is_not_what_was_built_makes_nothing(paths: HostPaths, image: str) -> None:
    paths.rootfs(image).write_bytes(b"changed")
    with pytest.raises(ImageDamagedError):
        overlay.do(overlay_request(image), disks.context(paths))
    assert list(paths.vms.iterdir()) == []


def test_a_stage_that_comes_when_the_vm_is_gone_makes_nothing(paths: HostPaths, image: str) -> None:
    with pytest.raises(StageFailedError, match="is not there"):
        overlay.do(overlay_request(image), disks.context(paths))
    assert list(paths.vms.iterdir()) == []


def test_a_sparse_overlay_may_be_larger_than_the_free_space(paths: HostPaths, image: str) -> None:
    request = overlay_request(image, overlay_mib=4 * 1024 * 1024)
    vm_directory(paths)
    overlay.do(request, disks.context(paths, "dm-snapshot"))
    found = paths.overlay(disks.VM).stat()
    assert (found.st_size, found.st_blocks) == (4 * 1024**4, 0)


def test_the_overlay_is_a_clone_with_its_holes_where_there_is_no_snapshot(tmp_path: Path, xfs: Path) -> None:
    for where, backend in ((tmp_path, "copy"), (xfs, "reflink")):
        paths = make_paths(where / backend)
        image = seal_image(paths, b"data" * 1024, hole_mib=16)
        vm_directory(paths)
        overlay.do(overlay_request(image), disks.context(paths, backend))
        made = paths.overlay(disks.VM)
        assert made.read_bytes() == paths.rootfs(image).read_bytes()
        assert made.stat().st_blocks * 512 < disks.MIB
        made.write_bytes(b"the guest's")
        overlay.do(overlay_request(image), disks.context(paths, "dm-snapshot"))  # configured otherwise since
        assert made.read_bytes() == b"the guest's"


def test_a_clone_where_the_file_system_cannot_leaves_nothing(paths: HostPaths, image: str) -> None:
    vm_directory(paths)
    with pytest.raises(ToolFailedError, match="cp ended"):
        overlay.do(overlay_request(image), disks.context(paths, "reflink"))
    assert not list(paths.vm(disks.VM).glob("overlay*"))


def test_a_backend_that_nobody_decided_on_says_so(paths: HostPaths, image: str) -> None:
    vm_directory(paths)
    with pytest.raises(InvalidInputError, match="disk_backend"):
        overlay.do(overlay_request(image), disks.context(paths, "auto"))


def test_a_copy_that_does_not_fit_says_both_sizes_and_leaves_nothing(xfs: Path) -> None:
    paths = make_paths(xfs / "full")
    image = seal_image(paths, os.urandom(32 * disks.MIB))
    filler = xfs / "filler"
    try:
        room = os.statvfs(xfs)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, (room.f_bavail - 4096) * room.f_frsize)
        vm_directory(paths)
        with pytest.raises(CapacityError, match="disk is full") as caught:
            overlay.do(overlay_request(image), disks.context(paths))
    finally:
        os.truncate(filler, 0)  # XFS frees an unlinked file's blocks some time later, a truncated one's now
        filler.unlink()
    assert "32MiB" in caught.value.details
    assert "is free" in caught.value.details
    assert not list(paths.vm(disks.VM).glob("overlay*"))
    overlay.do(overlay_request(image), disks.context(paths))


# --- work disk -----------------------------------------------------------------------------------


def check_work_disk(paths: HostPaths, size_mib: int) -> None:
    disk = paths.work_disk(disks.VM)
    assert disk.stat().st_size == size_mib * disks.MIB
    assert disk.stat().st_mode & 0o7777 == 0o660
    assert disks.fsck(disk) == 0
    assert disks.content(disk, "/.ssh/authorized_keys") == PUBLIC_KEY
    stats = disks.debugfs(disk, "stat /", "stat /.ssh", "stat /.ssh/authorized_keys")
    assert [line.split()[5] for line in stats.splitlines() if line.startswith("Inode:")] == [
        "0700",
        "0700",
        "0600",
    ]
    owners = {tuple(line.split()[1:4:2]) for line in stats.splitlines() if line.startswith("User:")}
    assert owners == {("0", "0")}
    blocks = dict(
        line.split(":", 1) for line in disks.debugfs(disk, "show_super_stats -h").splitlines() if ":" in line
    )
    assert int(blocks["Block count"]) * int(blocks["Block size"]) == size_mib * disks.MIB
    assert {path.name for path in disk.parent.iterdir()} == {"work.ext4"}


@pytest.mark.parametrize(
    ("seed_mib", "disk_mib", "way"), [(None, 24, "fresh"), (16, 16, "cloned"), (16, 48, "grown")]
)
def test_a_disk_is_fresh_cloned_or_grown(
    paths: HostPaths, seed_mib: int | None, disk_mib: int, way: str
) -> None:
    vm_directory(paths)
    if seed_mib:
        make_seed(paths, seed_mib)
    assert work_disk.do(work_disk_request(disk_mib), disks.context(paths)) == {"work_disk": way}
    check_work_disk(paths, disk_mib)
    if seed_mib:
        assert disks.content(paths.work_disk(disks.VM), "/.profile") == "umask 077\n"


def test_a_disk_that_is_there_is_kept_to_the_byte(paths: HostPaths) -> None:
    vm_directory(paths)
    make_seed(paths)
    paths.work_disk(disks.VM).write_bytes(b"the guest's")
    for disk_mib in (8, 48):
        assert work_disk.do(work_disk_request(disk_mib), disks.context(paths)) == {"work_disk": "kept"}
    assert paths.work_disk(disks.VM).read_bytes() == b"the guest's"


def test_a_size_below_the_seeds_is_refused_with_both_sizes_and_nothing_written(paths: HostPaths) -> None:
    vm_directory(paths)
    make_seed(paths, 32)
    with pytest.raises(InvalidInputError, match=r"8MiB.*32MiB"):
        work_disk.do(work_disk_request(8), disks.context(paths))
    assert list(paths.vm(disks.VM).iterdir()) == []


def test_a_seed_that_holds_no_file_system_leaves_nothing(paths: HostPaths) -> None:
    vm_directory(paths)
    paths.work_seed(disks.IMAGE).write_bytes(bytes(disks.MIB))
    with pytest.raises(StageFailedError):
        work_disk.do(work_disk_request(1), disks.context(paths))
    assert list(paths.vm(disks.VM).iterdir()) == []


def test_what_a_killed_run_left_is_made_anew(paths: HostPaths) -> None:
    (vm_directory(paths) / "work.ext4.new").write_bytes(b"half")
    work_disk.do(work_disk_request(24), disks.context(paths))
    check_work_disk(paths, 24)


def test_undo_of_the_work_disk_may_come_at_any_time(paths: HostPaths) -> None:
    context = disks.context(paths)
    work_disk.undo(disks.undo_request(), context)
    vm_directory(paths)
    work_disk.do(work_disk_request(24), context)
    work_disk.undo(disks.undo_request(), context)
    work_disk.undo(disks.undo_request(), context)
    assert list(paths.vm(disks.VM).iterdir()) == []


def test_a_disk_grows_and_keeps_its_files_and_never_shrinks(paths: HostPaths) -> None:
    context = disks.context(paths)
    vm_directory(paths)
    work_disk.do(work_disk_request(24), context)
    for _ in range(2):
        grow_work_disk.do(GrowWorkDiskRequest(vm_id=disks.VM, generation=1, disk_mib=64), context)
        check_work_disk(paths, 64)
    with pytest.raises(InvalidInputError, match="only grows"):
        grow_work_disk.do(GrowWorkDiskRequest(vm_id=disks.VM, generation=1, disk_mib=63), context)
    check_work_disk(paths, 64)


def test_growth_that_was_killed_half_way_is_finished(paths: HostPaths) -> None:
    context = disks.context(paths)
    vm_directory(paths)
    work_disk.do(work_disk_request(24), context)
    os.truncate(paths.work_disk(disks.VM), 64 * disks.MIB)
    grow_work_disk.do(GrowWorkDiskRequest(vm_id=disks.VM, generation=1, disk_mib=64), context)
    check_work_disk(paths, 64)


def test_growing_what_is_not_there_is_an_error(paths: HostPaths) -> None:
    with pytest.raises(NotFoundError):
        grow_work_disk.do(
            GrowWorkDiskRequest(vm_id=disks.VM, generation=1, disk_mib=64), disks.context(paths)
        )


# --- new_file ------------------------------------------------------------------------------------


def test_a_full_disk_in_the_middle_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with new_file(tmp_path / "target", 0o600) as scratch:
            scratch.touch()
            Path("/dev/full").write_bytes(b"x")  # always fails with ENOSPC

    with pytest.raises(CapacityError, match="disk is full"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_ran_into_the_full_disk_is_the_same_error(tmp_path: Path) -> None:
    def fill() -> None:
        with new_file(tmp_path / "target", 0o600) as scratch:
            scratch.touch()
            run((find_tool("dd"), "if=/dev/zero", "of=/dev/full", "count=1"), deadline_s=5)

    with pytest.raises(CapacityError, match="disk is full"):
        fill()
    assert list(tmp_path.iterdir()) == []
