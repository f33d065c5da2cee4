"""Images and kernels: catalogue, manifests with digests, builders from Debian packages."""

from banger.images.build import build_image
from banger.images.catalogue import Catalogue
from banger.images.manifest import FileDigest, ImageManifest, KernelManifest

__all__ = ["Catalogue", "FileDigest", "ImageManifest", "KernelManifest", "build_image"]
