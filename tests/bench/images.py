"""The benchmark's images: the installed ``micro``, and grown copies of it."""

from __future__ import annotations

import os
from pathlib import Path

from banger.contracts.names import HostPaths
from banger.images import store
from banger.images.catalogue import Catalogue
from banger.images.manifest import ImageManifest, digest_file
from banger.shell import find_tool, run

_DEADLINE_S = 120


def copy_store(source: HostPaths, target: HostPaths, image: str) -> ImageManifest:
    """Copy an image and its kernel into another state directory."""
    manifest = Catalogue(source).resolve(image)
    with store.locked(target, wait_s=0, progress=print):
        clone(source.image(manifest.id), target.image(manifest.id))
        clone(source.kernel(manifest.kernel), target.kernel(manifest.kernel))
    return manifest


def resized(paths: HostPaths, base: ImageManifest, name: str, size_mib: int) -> ImageManifest:
    """Add an image whose root file system is the base's, grown to a size, with every block allocated."""
    with store.scratch(paths.images) as directory:
        rootfs = directory / "rootfs.ext4"
        clone(paths.rootfs(base.id), rootfs)
        rootfs.chmod(0o600)
        with rootfs.open("r+b") as file:
            os.truncate(file.fileno(), size_mib * 1024 * 1024)
            run((find_tool("resize2fs"), str(rootfs)), deadline_s=_DEADLINE_S)
            os.posix_fallocate(file.fileno(), 0, size_mib * 1024 * 1024)
        fields = dict(base) | {"name": name, "rootfs": digest_file(rootfs)}
        manifest = ImageManifest.seal(**fields)
        (directory / "manifest.json").write_text(manifest.model_dump_json())
        store.publish(directory, paths.image(manifest.id))
    return manifest


def clone(source: Path, target: Path) -> None:
    """Copy a file or a directory, sharing its blocks where the file system can."""
    run(
        (find_tool("cp"), "--archive", "--reflink=auto", str(source), str(target)),
        deadline_s=_DEADLINE_S,
    )
