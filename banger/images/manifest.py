"""Manifests: what an image or a kernel is made of, and the digests that say whether it still is."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints

from banger.contracts.names import ImageId, ImageName, KernelId
from banger.contracts.requests import Frozen

Ssh = Literal["dropbear", "openssh"]

_CHUNK_BYTES = 1024 * 1024


class FileDigest(Frozen):
    """A file's length and SHA-256 (lower-case hex)."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Sealed(Frozen):
    """A manifest whose id is the digest of everything else in it, so that no field can change unseen."""

    id: str

    @classmethod
    def seal(cls, **fields: Any) -> Self:
        """Return the manifest of these fields with its id filled in."""
        draft = cls.model_validate({"id": "0" * 12, **fields})
        return draft.model_copy(update={"id": draft.content_id()})

    def content_id(self) -> str:
        """Return the id that the fields call for: the first 12 hex digits of their SHA-256."""
        # Without defaults, so that a field which comes later leaves what older stores hold as it is.
        said = self.model_dump_json(exclude={"id"}, exclude_defaults=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]


class KernelManifest(Sealed):
    """A kernel: vmlinuz (compressed, as packaged), vmlinux (the ELF in it), initrd.img (ours).

    ``initrd_recipe`` tells which of our recipes made the initrd: see ``initrd.recipe_digest``.
    """

    id: KernelId
    version: str
    suite: str
    architecture: str
    created: datetime
    files: dict[str, FileDigest]
    initrd_recipe: str = ""


class ImageManifest(Sealed):
    """An image: the base of system disks, the kernel that boots it, perhaps a seed for work disks."""

    id: ImageId
    name: ImageName
    suite: str
    packages: tuple[str, ...]
    architecture: str
    kernel: KernelId
    rootfs: FileDigest
    work_seed: FileDigest | None
    ssh: Ssh
    created: datetime

    @property
    def files(self) -> dict[str, FileDigest]:
        """The image's files by name, beside its manifest."""
        seed = {"work-seed.ext4": self.work_seed} if self.work_seed else {}
        return {"rootfs.ext4": self.rootfs} | seed


def digest_file(path: Path) -> FileDigest:
    """Return the length and SHA-256 of a file."""
    digest = hashlib.sha256()
    length = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
    return FileDigest(bytes=length, sha256=digest.hexdigest())
