"""Build an image from Debian packages: a recipe's tree, an ext4 of it, a manifest, one rename."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from banger.contracts.errors import InvalidInputError
from banger.contracts.names import HostPaths, is_label
from banger.images import debian, micro, store
from banger.images.apt import DEFAULT_SUITE, Variant, bootstrap, host_suite
from banger.images.ext4 import make_ext4
from banger.images.kernel import current_kernel
from banger.images.manifest import ImageManifest, Ssh, digest_file
from banger.privilege import require_root
from banger.shell import find_tool

# All that a build starts, asked for before it begins: nobody should learn of the last one after minutes.
_TOOLS = (
    *("mmdebstrap", "setpriv", "unshare"),
    *("mkfs.ext4", "debugfs"),
    *("depmod", "modprobe", "cpio", "zstd"),
)
_LOCK_WAIT_S = 1800.0
# Debian Policy 5.6.7, and what apt takes behind a name. What begins with - would be an option of apt's.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?([=/][A-Za-z0-9+.:~-]+)?")
_SUITE = re.compile(r"[a-z0-9][a-z0-9-]*")
_MIRROR = re.compile(r"[a-z][a-z0-9+.-]*:\S+")

Progress = Callable[[str], None]


class Recipe(NamedTuple):
    """How an image is made: packages into a tree, then ``finish``; room for the guest to write in MiB."""

    packages: tuple[str, ...]
    variant: Variant
    finish: Callable[[Path], None]
    ssh: Ssh
    free_mib: int
    work_seed: bool
    without: tuple[str, ...] = ()


RECIPES = {
    "micro": Recipe(micro.PACKAGES, "extract", micro.finish, "dropbear", free_mib=64, work_seed=False),
    "debian": Recipe(
        debian.PACKAGES,
        "minbase",
        debian.finish,
        "openssh",
        free_mib=1024,
        work_seed=True,
        without=debian.WITHOUT,
    ),
}
_WORK_SEED_FREE_MIB = 48


def build_image(
    name: Literal["micro", "debian"],
    paths: HostPaths,
    *,
    suite: str | None = None,
    mirror: str | None = None,
    include: Sequence[str] = (),
    as_name: str | None = None,
    progress: Progress = lambda _line: None,
) -> ImageManifest:
    """Build an image and the kernel that boots it, publish both, and return the image's manifest.

    ``suite`` is a Debian release (the host's own by default), ``mirror`` where to get it (the host's
    apt sources by default), ``include`` more packages. ``as_name`` is what it will be called
    (``name`` by default); an older image of that name stays until it is deleted. ``progress`` gets a
    line before every slow step. InvalidInputError (also when not root), ToolFailedError.
    """
    recipe, called = _check(name, as_name)
    suite = suite or host_suite() or DEFAULT_SUITE
    _check_words(suite, mirror, include)
    packages = (*recipe.packages, *include)
    with store.locked(paths, wait_s=_LOCK_WAIT_S, progress=progress):
        store.sweep(paths.images)
        store.sweep(paths.kernels)
        kernel = current_kernel(paths, suite, mirror, progress)
        with store.scratch(paths.images) as scratch:
            tree, built = scratch / "tree", scratch / "image"
            progress(f"Fetching and unpacking the packages of {called} ({suite})")
            bootstrap(
                tree, packages, suite=suite, mirror=mirror, variant=recipe.variant, without=recipe.without
            )
            recipe.finish(tree)
            progress("Making the file systems")
            _make_disks(recipe, tree, built)
            progress("Computing digests")
            seed = built / "work-seed.ext4"
            manifest = ImageManifest.seal(
                name=called,
                suite=suite,
                packages=packages,
                architecture=kernel.architecture,
                kernel=kernel.id,
                rootfs=digest_file(built / "rootfs.ext4"),
                work_seed=digest_file(seed) if recipe.work_seed else None,
                ssh=recipe.ssh,
                created=datetime.now(UTC),
            )
            (built / "manifest.json").write_text(manifest.model_dump_json(indent=2))
            store.publish(built, paths.image(manifest.id))
    progress(f"Built image {manifest.name} ({manifest.id}) with kernel {kernel.version}")
    return manifest


def _check(name: str, as_name: str | None) -> tuple[Recipe, str]:
    """Return the recipe and the image's name, or say what is missing before anything is made."""
    recipe = RECIPES.get(name)
    if recipe is None:
        raise InvalidInputError(
            f"there is no recipe {name!r}", resolution=f"Build one of: {', '.join(RECIPES)}."
        )
    called = as_name or name
    if not is_label(called):
        raise InvalidInputError(
            f"image name {called!r} is not a DNS label",
            resolution="Use lower-case letters, digits and hyphens, at most 63.",
        )
    require_root("build an image", "its files belong to root and to other system users")
    for tool in _TOOLS:
        find_tool(tool)
    return recipe, called


def _check_words(suite: str, mirror: str | None, include: Sequence[str]) -> None:
    """Refuse what mmdebstrap or apt would take for something else than a release, a URL and packages."""
    if not _SUITE.fullmatch(suite):
        raise InvalidInputError(f"{suite!r} is no Debian release", resolution="Write it like bookworm.")
    if mirror is not None and not _MIRROR.fullmatch(mirror):
        raise InvalidInputError(
            f"{mirror!r} is no URL", resolution="Write it like http://deb.debian.org/debian."
        )
    for package in include:
        if not _PACKAGE.fullmatch(package):
            raise InvalidInputError(
                f"{package!r} is no package's name", resolution="Give one package each time: --include git."
            )


def _make_disks(recipe: Recipe, tree: Path, built: Path) -> None:
    built.mkdir()
    make_ext4(tree, built / "rootfs.ext4", free_mib=recipe.free_mib)
    if recipe.work_seed:
        make_ext4(tree / "root", built / "work-seed.ext4", free_mib=_WORK_SEED_FREE_MIB)
    shutil.rmtree(tree)
