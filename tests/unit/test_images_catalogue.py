"""The catalogue: what a name means, what may be deleted, what is still as it was built."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from banger.contracts.errors import ConflictError, ImageDamagedError, NotFoundError
from banger.contracts.names import HostPaths
from banger.images import Catalogue, FileDigest, ImageManifest, KernelManifest, verify
from banger.images.manifest import digest_file

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return HostPaths(tmp_path / "state", tmp_path / "run")


@pytest.fixture
def verified(tmp_path: Path) -> Path:
    return tmp_path / "verified"


def add_kernel(paths: HostPaths, version: str = "6.12") -> KernelManifest:
    draft = paths.kernels / "draft"
    draft.mkdir(parents=True)
    (draft / "vmlinux").write_bytes(b"kernel " + version.encode())
    files = {"vmlinux": digest_file(draft / "vmlinux")}
    kernel = KernelManifest.seal(
        version=version, suite="bookworm", architecture="amd64", created=EPOCH, files=files
    )
    (draft / "manifest.json").write_text(kernel.model_dump_json())
    draft.rename(paths.kernel(kernel.id))
    return kernel


def add_image(paths: HostPaths, kernel: str, name: str = "micro", age_days: int = 0) -> ImageManifest:
    draft = paths.images / "draft"
    draft.mkdir(parents=True)
    (draft / "rootfs.ext4").write_bytes(f"rootfs of {name}, {age_days} days old".encode())
    image = ImageManifest.seal(
        name=name,
        suite="bookworm",
        packages=("busybox-static",),
        architecture="amd64",
        kernel=kernel,
        rootfs=digest_file(draft / "rootfs.ext4"),
        work_seed=None,
        ssh="dropbear",
        created=EPOCH - timedelta(days=age_days),
    )
    (draft / "manifest.json").write_text(image.model_dump_json())
    draft.rename(paths.image(image.id))
    return image


def test_a_store_that_does_not_exist_is_empty(paths: HostPaths) -> None:
    assert Catalogue(paths).list() == ()
    assert Catalogue(paths).kernels() == ()


def test_a_name_means_its_newest_image(paths: HostPaths) -> None:
    kernel = add_kernel(paths)
    old = add_image(paths, kernel.id, age_days=2)
    new = add_image(paths, kernel.id, age_days=1)
    assert Catalogue(paths).resolve("micro") == new
    assert Catalogue(paths).resolve(old.id) == old
    assert Catalogue(paths).list() == (new, old)


def test_an_unknown_name_is_answered_with_what_there_is(paths: HostPaths) -> None:
    add_image(paths, add_kernel(paths).id, name="debian")
    with pytest.raises(NotFoundError, match=r"(?s)no image 'nope'.*there is: debian.*banger image build"):
        Catalogue(paths).resolve("nope")


def test_a_manifest_that_was_edited_is_no_image(paths: HostPaths) -> None:
    image = add_image(paths, add_kernel(paths).id)
    file = paths.image(image.id) / "manifest.json"
    file.write_text(file.read_text().replace("busybox-static", "backdoor"))
    with pytest.raises(NotFoundError):
        Catalogue(paths).resolve("micro")


def test_scratch_directories_and_strangers_are_not_listed(paths: HostPaths) -> None:
    image = add_image(paths, add_kernel(paths).id)
    (paths.images / ".scratch-abc").mkdir()
    (paths.images / "0123456789ab").mkdir()  # an id, but no manifest
    assert Catalogue(paths).list() == (image,)


def test_delete_takes_all_versions_of_a_name_and_their_kernels(paths: HostPaths) -> None:
    mine, other = add_kernel(paths, "6.1"), add_kernel(paths, "6.12")
    images = {add_image(paths, mine.id, age_days=age) for age in (1, 2)}
    debian = add_image(paths, other.id, name="debian")
    assert set(Catalogue(paths).delete("micro", users={})) == images
    assert Catalogue(paths).list() == (debian,)
    assert Catalogue(paths).kernels() == (other,)
    assert sorted(entry.name for entry in paths.images.iterdir()) == [".lock", debian.id]


def test_delete_is_refused_while_one_version_is_in_use(paths: HostPaths) -> None:
    kernel = add_kernel(paths)
    old, new = add_image(paths, kernel.id, age_days=2), add_image(paths, kernel.id, age_days=1)
    with pytest.raises(ConflictError, match=f"{old.id}: dev web"):
        Catalogue(paths).delete("micro", users={old.id: ["dev", "web"], "0123456789ab": ["other"]})
    assert Catalogue(paths).list() == (new, old)
    Catalogue(paths).delete(new.id, users={old.id: ["dev", "web"]})
    assert Catalogue(paths).list() == (old,)


def test_verify_reads_each_file_once(
    paths: HostPaths, verified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def recording(path: Path) -> FileDigest:
        read.append(path.name)
        return digest_file(path)

    monkeypatch.setattr(verify, "digest_file", recording)
    image = add_image(paths, add_kernel(paths).id)
    threads = [threading.Thread(target=Catalogue(paths).verify, args=(image.id, verified)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Catalogue(paths).verify(image.id, verified)
    assert sorted(read) == ["rootfs.ext4", "vmlinux"]


@pytest.mark.parametrize("damage", ["changed", "missing", "kernel"])
def test_verify_notices_damage_also_after_it_was_right(paths: HostPaths, verified: Path, damage: str) -> None:
    kernel = add_kernel(paths)
    image = add_image(paths, kernel.id)
    Catalogue(paths).verify(image.id, verified)
    rootfs = paths.rootfs(image.id)
    if damage == "changed":
        rootfs.write_bytes(rootfs.read_bytes()[::-1])  # same length
    elif damage == "missing":
        rootfs.unlink()
    else:
        (paths.kernel(kernel.id) / "vmlinux").write_bytes(b"another kernel")
    with pytest.raises(ImageDamagedError, match="build it again"):
        Catalogue(paths).verify(image.id, verified)


def test_a_missing_kernel_is_damage_with_advice(paths: HostPaths, verified: Path) -> None:
    image = add_image(paths, "0123456789ab")
    with pytest.raises(ImageDamagedError, match=r"(?s)kernel 0123456789ab.*banger image build micro"):
        Catalogue(paths).verify(image.id, verified)


def test_a_file_that_changed_since_it_was_verified_is_told(paths: HostPaths, verified: Path) -> None:
    image = add_image(paths, add_kernel(paths).id)
    catalogue, rootfs = Catalogue(paths), paths.rootfs(image.id)
    assert catalogue.changed(verified) == ()  # nobody has looked yet
    catalogue.verify(image.id, verified)
    rootfs.chmod(0o400)
    assert catalogue.changed(verified) == ()
    os.utime(rootfs)
    assert catalogue.changed(verified) == (str(rootfs),)
    rootfs.unlink()
    assert catalogue.changed(verified) == (str(rootfs),)
