"""The system disk: handed over or snapshot, do twice, undo, patched, and hostile surroundings."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import disks
import pytest
from mountns import private_mounts
from netns import check, libc

from banger import disk_backend
from banger.contracts.errors import (
    BangerError,
    PolicyError,
    StageFailedError,
    StaleGenerationError,
    ToolFailedError,
)
from banger.contracts.requests import AdmitRequest, GuestFile
from root_worker.host import RootHost
from root_worker.ops import dm_snapshot, loop
from root_worker.stages import admit, attach_system_disk, patch_rootfs

pytestmark = pytest.mark.integration


@pytest.fixture
def host(tmp_path: Path, tools_root: Path) -> RootHost:
    """A host with an image and what the overlay stage leaves."""
    return disks.ready_host(tmp_path / "state", tmp_path, tools_root)


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The snapshot devices that a device-mapper of our own has made."""
    made: set[str] = set()
    monkeypatch.setattr(dm_snapshot, "attach", lambda vm_id, *_: made.add(vm_id))
    monkeypatch.setattr(dm_snapshot, "detach", lambda vm_id, _: made.discard(vm_id))
    return made


def attach(host: RootHost, generation: int = 1) -> Path:
    attach_system_disk.do(disks.attach_request(generation), host)
    return host.paths.overlay(disks.VM)


def names(host: RootHost) -> set[str]:
    return {path.name for path in host.paths.vm(disks.VM).iterdir()}


# --- attach --------------------------------------------------------------------------------------


def test_the_disk_becomes_the_vms_alone(host: RootHost) -> None:
    before = names(host)
    disk = attach(host)
    found = disk.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (disks.UID, disks.UID, 0o600)
    assert disk.read_bytes() == host.paths.rootfs(disks.IMAGE).read_bytes()
    assert names(host) == before


def test_attaching_twice_keeps_what_the_guest_wrote(host: RootHost) -> None:
    disk = attach(host)
    disks.debugfs(disk, "rm /etc/hostname", write=True)
    attach_system_disk.undo(disks.undo_request(), host)
    attach(host, generation=2)
    assert disks.content(disk, "/etc/hostname") == ""


def test_undo_before_do_and_twice_is_nothing(host: RootHost) -> None:
    attach_system_disk.undo(disks.undo_request(), host)
    attach(host)
    attach_system_disk.undo(disks.undo_request(), host)
    attach_system_disk.undo(disks.undo_request(), host)
    assert host.paths.overlay(disks.VM).exists()


def test_an_overlay_without_data_becomes_a_snapshot_and_stays_one(
    host: RootHost, snapshots: set[str]
) -> None:
    disks.make_empty_overlay(host.paths)
    assert attach_system_disk.do(disks.attach_request(), host) == {"disk_backend": "dm-snapshot"}
    assert snapshots == {disks.VM}
    attach_system_disk.undo(disks.undo_request(), host)
    assert snapshots == set()
    host.paths.overlay(disks.VM).write_bytes(b"what the kernel keeps there")
    assert attach_system_disk.do(disks.attach_request(2), host) == {"disk_backend": "dm-snapshot"}


def test_a_file_stays_one_though_nothing_is_left_in_it(host: RootHost, snapshots: set[str]) -> None:
    assert attach_system_disk.do(disks.attach_request(), host) == {"disk_backend": "file"}
    os.truncate(host.paths.overlay(disks.VM), 0)
    assert attach_system_disk.do(disks.attach_request(2), host) == {"disk_backend": "file"}
    assert snapshots == set()


def test_the_kernel_is_not_given_a_snapshot_store_that_the_worker_wrote(
    host: RootHost, snapshots: set[str]
) -> None:
    disks.make_empty_overlay(host.paths)
    attach(host)
    attach_system_disk.undo(disks.undo_request(), host)
    overlay = host.paths.overlay(disks.VM)
    for owner in (disks.WORKER.pw_uid, disks.UID):  # its own file; its work disk or log, once handed over
        overlay.unlink()
        overlay.write_bytes(b"SnAp")
        os.chown(overlay, owner, -1)
        with pytest.raises(PolicyError, match="not by 0"):
            attach(host)
    assert snapshots == set()


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDONLY])
def test_nor_one_that_the_worker_still_has_open(host: RootHost, snapshots: set[str], flags: int) -> None:
    disks.make_empty_overlay(host.paths)
    kept = os.open(host.paths.overlay(disks.VM), flags)
    try:
        for _ in range(2):
            with pytest.raises(PolicyError, match="has it open"):
                attach(host)
    finally:
        os.close(kept)
    assert snapshots == set()
    attach(host)
    assert snapshots == {disks.VM}


def test_a_vm_whose_disk_could_not_be_detached_is_not_forgotten(
    host: RootHost, snapshots: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disks.make_empty_overlay(host.paths)
    attach(host)

    def busy(*_: object) -> None:
        raise ToolFailedError("dmsetup ended with 1")

    with monkeypatch.context() as patched:
        patched.setattr(dm_snapshot, "detach", busy)
        with pytest.raises(ToolFailedError):
            admit.undo(disks.undo_request(), host)
    admit.undo(disks.undo_request(), host)
    assert snapshots == set()
    assert host.registry.get(disks.VM) is None


def test_what_bears_the_name_of_a_vm_that_root_does_not_know_stays(
    host: RootHost, snapshots: set[str]
) -> None:
    snapshots.add(disks.VM)
    attach_system_disk.undo(disks.undo_request(), host)
    assert snapshots == {disks.VM}
    assert host.registry.get(disks.VM) is None


def test_of_a_vm_that_root_had_forgotten_the_kernel_tells_that_it_had_one(
    host: RootHost, snapshots: set[str]
) -> None:
    snapshots.add(disks.VM)  # without a node even, as a kill may leave it
    admit.do(AdmitRequest(vm_id=disks.VM, generation=1, slot=disks.SLOT), host)
    attach_system_disk.undo(disks.undo_request(), host)
    assert snapshots == set()


def test_an_older_generation_is_refused(host: RootHost) -> None:
    attach(host, generation=3)
    with pytest.raises(StaleGenerationError):
        attach(host, generation=2)
    with pytest.raises(StaleGenerationError):
        attach_system_disk.undo(disks.undo_request(2), host)


def test_a_running_vms_disk_is_neither_detached_nor_patched(host: RootHost) -> None:
    attach(host)
    with subprocess.Popen(["/usr/bin/sleep", "60"], user=disks.UID, group=disks.UID) as vmm:
        try:
            with pytest.raises(StageFailedError, match="still runs"):
                attach_system_disk.undo(disks.undo_request(), host)
            with pytest.raises(StageFailedError, match="still runs"):
                patch_rootfs.do(disks.patch_request(), host)
        finally:
            vmm.kill()


def test_a_base_that_is_not_roots_is_refused(host: RootHost, snapshots: set[str]) -> None:
    disks.make_empty_overlay(host.paths)
    os.chown(host.paths.rootfs(disks.IMAGE), disks.WORKER.pw_uid, -1)
    with pytest.raises(PolicyError):
        attach(host)
    assert snapshots == set()


def test_a_missing_overlay_says_so(host: RootHost) -> None:
    host.paths.overlay(disks.VM).unlink()
    with pytest.raises(StageFailedError, match="is not there"):
        attach(host)


def test_a_launch_hands_the_workers_file_to_the_vm_and_may_be_repeated(host: RootHost) -> None:
    attach(host)
    disk = host.paths.work_disk(disks.VM)
    disk.touch(0o600)
    os.chown(disk, disks.WORKER.pw_uid, disks.WORKER.pw_gid)
    for _ in range(2):
        disks.open_drives(host)
        found = disk.stat()
        assert (found.st_uid, found.st_gid) == (disks.UID, disks.WORKER.pw_gid)
        assert found.st_mode & 0o7777 == 0o660


def test_a_loop_clears_itself_with_its_last_user(tmp_path: Path) -> None:
    with disks.opened(tmp_path / "disk") as file:
        with loop.attached(file, read_only=True) as device, loop.attached(file, read_only=False) as other:
            queues = [Path(f"/sys/block/{path.name}") for path in (device, other)]
            assert [(queue / "ro").read_text() for queue in queues] == ["1\n", "0\n"]
            assert {(queue / "loop/autoclear").read_text() for queue in queues} == {"1\n"}
        assert not any((queue / "loop/backing_file").exists() for queue in queues)


def test_without_a_loop_device_of_the_kernels_it_is_told_why(tmp_path: Path) -> None:
    with private_mounts(), disks.opened(tmp_path / "disk") as file:
        check(libc.mount(b"none", b"/dev", b"tmpfs", 0, None))
        with pytest.raises(StageFailedError, match="gives no loop device: No such file"):
            loop.attached(file, read_only=True).__enter__()
        Path("/dev/loop-control").touch()  # one that knows no such question
        with pytest.raises(StageFailedError, match="gives no loop device: Inappropriate ioctl"):
            loop.attached(file, read_only=True).__enter__()
        assert "Inappropriate ioctl" in disk_backend.no_loops()


def test_a_container_without_the_node_of_the_free_loop_is_told_which(tmp_path: Path) -> None:
    with private_mounts(), disks.opened(tmp_path / "disk") as file:
        check(libc.mount(b"none", b"/dev", b"tmpfs", 0, None))
        os.mknod("/dev/loop-control", 0o600 | stat.S_IFCHR, os.makedev(10, 237))
        with pytest.raises(StageFailedError, match=r"and /dev/loop.* is not there") as caught:
            loop.attached(file, read_only=True).__enter__()
        assert "mknod /dev/loop" in caught.value.resolution
        assert "which is not there" in disk_backend.no_loops()


def test_a_base_that_has_changed_is_attached_to_no_vm(host: RootHost, snapshots: set[str]) -> None:
    disks.make_empty_overlay(host.paths)
    attach(host)
    attach_system_disk.undo(disks.undo_request(), host)
    os.utime(host.paths.rootfs(disks.IMAGE))  # as any write to it leaves it
    with pytest.raises(StageFailedError, match="has changed since"):
        attach(host, generation=2)
    assert snapshots == set()


def test_an_overlay_grows_to_what_is_asked_and_never_shrinks(host: RootHost, snapshots: set[str]) -> None:
    disks.make_empty_overlay(host.paths, size_mib=8)
    assert attach(host).stat().st_size == 64 * disks.MIB
    os.truncate(host.paths.overlay(disks.VM), 80 * disks.MIB)
    assert attach(host, generation=2).stat().st_size == 80 * disks.MIB


# --- patch ---------------------------------------------------------------------------------------


def test_the_guests_files_are_there_as_asked_and_the_disk_is_sound(host: RootHost) -> None:
    disk = attach(host)
    for _ in range(2):
        patch_rootfs.do(disks.patch_request(), host)
        for file in disks.FILES:
            assert disks.content(disk, file.path) == file.content
        assert disks.content(disk, "/etc/fstab") == (
            "UUID=x / ext4 defaults 0 1\n"
            "tmpfs /run tmpfs defaults,nodev,nosuid,mode=0755 0 0\n"
            "tmpfs /tmp tmpfs defaults,nodev,nosuid,mode=1777 0 0\n"
            "/dev/vdb /root ext4 defaults 0 0\n"
        )
        listing = disks.debugfs(disk, "ls -l /etc/ssh", "ls -l /usr/local/lib/banger", "ls -l /etc")
        modes = {
            line.split()[-1]: line.split()[1:5:1] for line in listing.splitlines() if len(line.split()) > 7
        }
        assert modes["ssh_host_ed25519_key"][0] == "100600"
        assert modes["ssh_host_ed25519_key.pub"][0] == "100644"
        assert modes["network-up"][0] == "100755"
        assert modes["hostname"][0] == "100644"
        assert modes["sshd_config.d"][0] == "40755"
        assert {tuple(mode[2:4]) for name, mode in modes.items() if not name.startswith(".")} == {("0", "0")}
        assert disks.content(disk, "/etc/ssh/ssh_host_ed25519_key") == disks.HOST_KEY.decode()
        assert disks.fsck(disk) == 0


def test_an_absent_fstab_counts_as_empty(tmp_path: Path, tools_root: Path) -> None:
    host = disks.ready_host(tmp_path / "state", tmp_path, tools_root, fstab=None)
    disk = attach(host)
    patch_rootfs.do(disks.patch_request(), host)
    assert disks.content(disk, "/etc/fstab").startswith("tmpfs /run")


@pytest.mark.parametrize(
    ("commands", "complaint"),
    [
        (["sif /etc/fstab size 0x10000000000"], "fstab"),
        (["rm /etc/fstab", "symlink /etc/fstab /etc/hostname"], "fstab"),
        (["rm /etc/fstab", "mkdir /etc/fstab"], "fstab"),
        (
            ["rm /etc/hostname", "mkdir /etc/hostname", "mkdir /etc/hostname/x"],
            "/etc/hostname in the guest's file system is a directory",
        ),
        (
            ["symlink /etc/banger /root", "rm /usr/local/lib/banger", "symlink /usr/local/lib/banger /root"],
            "symlink",
        ),
        (["sif / mode 0100644"], "no root directory"),
    ],
)
def test_a_hostile_file_system_is_refused(host: RootHost, commands: list[str], complaint: str) -> None:
    disk = attach(host)
    disks.debugfs(disk, *commands, write=True)
    before = disk.read_bytes()
    with pytest.raises(StageFailedError) as caught:
        patch_rootfs.do(disks.patch_request(), host)
    assert complaint in str(caught.value)
    assert disk.read_bytes() == before


def test_a_link_in_a_files_place_is_replaced_and_its_target_stays(host: RootHost) -> None:
    disk = attach(host)
    disks.debugfs(disk, "rm /etc/hostname", "symlink /etc/hostname fstab", write=True)
    patch_rootfs.do(disks.patch_request(), host)
    assert disks.content(disk, "/etc/hostname") == "dev\n"
    assert disks.content(disk, "/etc/fstab").startswith("UUID=x")


def test_a_full_guest_file_system_is_refused(host: RootHost, tmp_path: Path) -> None:
    disk = attach(host)
    filler = tmp_path / "filler"
    filler.write_bytes(b"x" * 40 * disks.MIB)
    disks.debugfs(disk, f"write {filler} /filler", write=True)
    script = GuestFile(path="/usr/local/lib/banger/network-up", content="#" * 16 * 1024, mode=0o755)
    with pytest.raises(StageFailedError) as caught:
        patch_rootfs.do(disks.patch_request(files=(*disks.FILES[:-1], script)), host)
    assert script.path in caught.value.details


def test_what_is_no_file_system_at_all_is_refused(host: RootHost) -> None:
    disk = attach(host)
    disk.write_bytes(bytes(disks.MIB))
    with pytest.raises(StageFailedError):
        patch_rootfs.do(disks.patch_request(), host)


def test_a_disk_that_a_killed_guest_left_dirty_is_replayed_first(host: RootHost, tmp_path: Path) -> None:
    disk = attach(host)
    disks.debugfs(disk, "jo", "jw -b 5000 /dev/zero", "jc", write=True)
    assert "needs_recovery" in disks.debugfs(disk, "features")
    patch_rootfs.do(disks.patch_request(), host)
    assert "needs_recovery" not in disks.debugfs(disk, "features")
    assert disks.fsck(disk) == 0


def test_a_file_that_policy_does_not_name_is_refused_at_the_sink(host: RootHost) -> None:
    attach(host)
    with pytest.raises(PolicyError):
        patch_rootfs.do(disks.patch_request(files=(GuestFile(path="/etc/shadow", content=""),)), host)


@pytest.mark.parametrize("trap", ["large", "missing", "empty"])
def test_a_host_key_that_is_none_is_refused(host: RootHost, trap: str) -> None:
    attach(host)
    key = host.paths.host_key(disks.VM)
    key.unlink()
    if trap != "missing":
        key.write_bytes(b"x" * (10_000 if trap == "large" else 0))
        os.chown(key, disks.WORKER.pw_uid, -1)
    with pytest.raises(BangerError):
        patch_rootfs.do(disks.patch_request(), host)
    assert disks.content(host.paths.overlay(disks.VM), "/etc/hostname") == "old\n"
