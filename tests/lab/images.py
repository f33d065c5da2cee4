"""An image of this machine's store, with its kernel, as the tar that is copied to another host."""

from __future__ import annotations

from pathlib import Path

from banger.images.catalogue import Catalogue
from banger.settings import load_settings
from banger.shell import find_tool, run

_DEADLINE_S = 120.0


def pack_images(target: Path, *names: str) -> None:
    """Write a tar of the newest images of these names and of their kernels, beneath the state directory."""
    paths = load_settings().paths
    catalogue = Catalogue(paths)
    found = [catalogue.resolve(name) for name in names]
    parts = [*(paths.image(image.id) for image in found), *{paths.kernel(image.kernel) for image in found}]
    listed = [str(part.relative_to(paths.state)) for part in parts]
    argv = (find_tool("tar"), "--create", "--sparse", "--file", str(target), "--directory", str(paths.state))
    run((*argv, *listed), deadline_s=_DEADLINE_S)
