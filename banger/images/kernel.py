"""Build a kernel for guests from Debian's cloud kernel package."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from banger.contracts.errors import ToolFailedError
from banger.contracts.names import HostPaths
from banger.images import store
from banger.images.apt import ARCHITECTURE, bootstrap
from banger.images.bzimage import extract_vmlinux
from banger.images.catalogue import Catalogue
from banger.images.initrd import make_initrd, recipe_digest
from banger.images.manifest import KernelManifest, digest_file

# The first that the suite's archive offers. Bookworm has a newer kernel in its security archive.
_PACKAGES = {"bookworm": ("linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64")}
_DEFAULT_PACKAGES = ("linux-image-cloud-amd64",)

# Images built one after the other share a kernel, and a rebuild on another day fetches its fixes.
_FRESH = timedelta(days=1)


def current_kernel(
    paths: HostPaths, suite: str, mirror: str | None, progress: Callable[[str], None]
) -> KernelManifest:
    """Return the suite's kernel: one of the last day, with today's initrd, from the store, or a new one."""
    for kernel in Catalogue(paths).kernels():
        fresh = datetime.now(UTC) - kernel.created < _FRESH
        if kernel.suite == suite and fresh and kernel.initrd_recipe == recipe_digest():
            progress(f"Using kernel {kernel.version} of {kernel.created:%Y-%m-%d %H:%M} UTC")
            return kernel
    return build_kernel(paths, suite, mirror, progress)


def build_kernel(
    paths: HostPaths, suite: str, mirror: str | None, progress: Callable[[str], None]
) -> KernelManifest:
    """Fetch the suite's cloud kernel, make vmlinux and initrd of it, and publish all three."""
    with store.scratch(paths.kernels) as scratch:
        progress(f"Fetching the cloud kernel of {suite}")
        packages = _fetch(scratch, suite, mirror)
        packaged = next(packages.glob("boot/vmlinuz-*"))
        version = packaged.name.removeprefix("vmlinuz-")
        progress(f"Making the initrd and vmlinux of kernel {version}")
        built = scratch / "kernel"
        built.mkdir()
        image = packaged.read_bytes()
        (built / "vmlinuz").write_bytes(image)
        (built / "vmlinux").write_bytes(extract_vmlinux(image))
        make_initrd(packages, version, built / "initrd.img")
        manifest = KernelManifest.seal(
            version=version,
            suite=suite,
            architecture=ARCHITECTURE,
            created=datetime.now(UTC),
            files={file.name: digest_file(file) for file in sorted(built.iterdir())},
            initrd_recipe=recipe_digest(),
        )
        (built / "manifest.json").write_text(manifest.model_dump_json(indent=2))
        store.publish(built, paths.kernel(manifest.id))
    return manifest


def _fetch(scratch: Path, suite: str, mirror: str | None) -> Path:
    """Unpack the kernel and busybox; the last package's failure is the one that counts."""
    *others, last = _PACKAGES.get(suite, _DEFAULT_PACKAGES)
    for package in others:
        target = scratch / package
        try:
            bootstrap(target, (package, "busybox-static"), suite=suite, mirror=mirror, variant="extract")
        except ToolFailedError as error:
            if "Unable to locate package" not in error.details:
                raise
        else:
            return target
    target = scratch / last
    bootstrap(target, (last, "busybox-static"), suite=suite, mirror=mirror, variant="extract")
    return target
