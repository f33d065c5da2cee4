"""Which kernel of the store a build may use again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from banger.contracts.names import HostPaths
from banger.images import KernelManifest, kernel
from banger.images.initrd import recipe_digest
from banger.images.manifest import FileDigest, ImageManifest


def manifest(**changes: Any) -> KernelManifest:
    fields = {
        "version": "6.12",
        "suite": "bookworm",
        "architecture": "amd64",
        "created": datetime.now(UTC) - timedelta(hours=23),
        "files": {},
        "initrd_recipe": recipe_digest(),
    }
    return KernelManifest.seal(**(fields | changes))


@pytest.fixture
def current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[KernelManifest], object]:
    """Return what a build would boot with, where the store has this one kernel; ``built`` for a new one."""
    monkeypatch.setattr(kernel, "build_kernel", lambda *_arguments: "built")
    paths = HostPaths(tmp_path / "state", tmp_path / "run")

    def ask(stored: KernelManifest) -> object:
        paths.kernel(stored.id).mkdir(parents=True)
        (paths.kernel(stored.id) / "manifest.json").write_text(stored.model_dump_json())
        return kernel.current_kernel(paths, "bookworm", None, lambda _line: None)

    return ask


def test_a_kernel_of_the_last_day_is_used_again(current: Callable[[KernelManifest], object]) -> None:
    stored = manifest()
    assert current(stored) == stored


@pytest.mark.parametrize(
    "changes",
    [
        {"created": datetime.now(UTC) - timedelta(hours=25)},
        {"suite": "trixie"},
        {"initrd_recipe": "0123456789ab"},
        {"initrd_recipe": ""},
    ],
    ids=["older", "of another suite", "with another initrd", "from before recipes were noted"],
)
def test_any_other_kernel_is_built_anew(
    changes: dict[str, Any], current: Callable[[KernelManifest], object]
) -> None:
    assert current(manifest(**changes)) == "built"


def test_the_recipe_follows_the_guests_init(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe_digest()
    monkeypatch.setattr("banger.images.initrd.skeleton", lambda _name: "#!/bin/sh\n")
    assert recipe_digest() != before


def test_manifests_from_before_a_field_was_added_keep_their_ids() -> None:
    digest = FileDigest(bytes=1, sha256="0" * 64)
    day = datetime(2026, 1, 1, tzinfo=UTC)
    fields: dict[str, Any] = {"suite": "bookworm", "architecture": "amd64", "created": day}
    old_kernel = KernelManifest.seal(**fields, version="6.12", files={"vmlinux": digest})
    old_image = ImageManifest.seal(
        **fields, name="micro", packages=(), kernel="0" * 12, rootfs=digest, work_seed=None, ssh="dropbear"
    )
    assert (old_kernel.id, old_image.id) == ("a58cd6169cbc", "37686b44a81b")
