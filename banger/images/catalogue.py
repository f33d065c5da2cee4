"""The catalogue: which images and kernels this host has, and what a name means."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from banger.contracts.errors import ConflictError, ImageDamagedError, NotFoundError
from banger.contracts.names import HostPaths, is_id
from banger.images import store
from banger.images.manifest import ImageManifest, KernelManifest, Sealed
from banger.images.verify import has_changed, verify_file

log = logging.getLogger("banger.images")

_Manifest = TypeVar("_Manifest", bound=Sealed)


class Catalogue:
    """The images and kernels beneath one state directory. Read-only but for ``delete``."""

    def __init__(self, paths: HostPaths) -> None:
        self._paths = paths

    def list(self) -> tuple[ImageManifest, ...]:
        """Return all images, by name, the newest of a name first."""
        images = _manifests(self._paths.images, ImageManifest)
        newest_first = sorted(images, key=lambda image: image.created, reverse=True)
        return tuple(sorted(newest_first, key=lambda image: image.name))

    def kernels(self) -> tuple[KernelManifest, ...]:
        """Return all kernels, the newest first."""
        kernels = _manifests(self._paths.kernels, KernelManifest)
        return tuple(sorted(kernels, key=lambda kernel: kernel.created, reverse=True))

    def resolve(self, ref: str) -> ImageManifest:
        """Return the image of this id, or the newest of this name; NotFoundError says what there is."""
        return self._matching(ref)[0]

    def kernel(self, image: ImageManifest) -> KernelManifest:
        """Return the kernel that boots an image; ImageDamagedError when it is not there."""
        for kernel in self.kernels():
            if kernel.id == image.kernel:
                return kernel
        raise ImageDamagedError(
            f"image {image.name} ({image.id}) needs kernel {image.kernel}, which is missing",
            resolution=f"Build the image again: banger image build {image.name}",
        )

    def verify(self, image_id: str, verified: Path) -> None:
        """Raise ImageDamagedError unless every file that a VM of this image boots from is as built.

        ``verified`` is a directory of the caller's own that remembers files already read: the second
        call costs a few stats. Safe in threads.
        """
        image = self.resolve(image_id)
        kernel = self.kernel(image)
        for name, digest in image.files.items():
            verify_file(self._paths.image(image.id) / name, digest, verified)
        for name, digest in kernel.files.items():
            verify_file(self._paths.kernel(kernel.id) / name, digest, verified)

    def changed(self, verified: Path) -> tuple[str, ...]:
        """Return the files of images that are missing, or are not those that were verified last, by path."""
        files = [self._paths.image(image.id) / name for image in self.list() for name in image.files]
        return tuple(str(file) for file in files if has_changed(file, verified))

    def delete(self, ref: str, users: Mapping[str, Sequence[str]]) -> tuple[ImageManifest, ...]:
        """Delete the image of this id, or all versions of this name, and kernels nobody needs any more.

        ``users`` has the names of the VMs that use an image, by its id; ConflictError naming those of ours.
        Returns what was deleted.
        """
        with store.locked(self._paths, wait_s=0, progress=log.info):
            doomed = self._matching(ref)
            used = [f"{image.id}: {' '.join(users[image.id])}" for image in doomed if users.get(image.id)]
            if used:
                raise ConflictError(
                    f"image {ref} is in use",
                    details="VMs that use it:\n" + "\n".join(used),
                    resolution="Delete these VMs first: banger vm delete NAME...",
                )
            for image in doomed:
                store.remove(self._paths.image(image.id))
            needed = {image.kernel for image in self.list()}
            for kernel in self.kernels():
                if kernel.id not in needed:
                    store.remove(self._paths.kernel(kernel.id))
        return doomed

    def _matching(self, ref: str) -> tuple[ImageManifest, ...]:
        images = self.list()
        matching = tuple(image for image in images if image.id == ref) or tuple(
            image for image in images if image.name == ref
        )
        if not matching:
            names = sorted({image.name for image in images})
            raise NotFoundError(
                f"there is no image {ref!r}",
                details=f"there is: {', '.join(names)}" if names else "there is no image at all yet",
                resolution="Build one: banger image build micro (or debian).",
            )
        return matching


def _manifests(directory: Path, kind: type[_Manifest]) -> list[_Manifest]:
    if not directory.is_dir():
        return []
    found = []
    for entry in directory.iterdir():
        if not is_id(entry.name):
            continue
        try:
            manifest = kind.model_validate_json((entry / "manifest.json").read_bytes())
        except FileNotFoundError:
            continue  # deleted while we looked
        except ValidationError as error:
            log.warning("%s/manifest.json is not a manifest: %s", entry, error)
            continue
        if manifest.id != entry.name or manifest.content_id() != entry.name:
            log.warning("%s/manifest.json is not what was built: its content has another id", entry)
            continue
        found.append(manifest)
    return found
