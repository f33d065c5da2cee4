"""A farm of the benchmark's own: state on an XFS in a loop file, images beside it, gone at the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from banger.embedded import control, vmm_root
from banger.farm import Farm
from banger.images.manifest import ImageManifest
from banger.settings import Settings, load_settings
from banger.shell import find_tool, run
from tests.bench.images import copy_store, resized
from tests.bench.in_a_row import InARow

_FILE_SYSTEM_BYTES = 24 * 1024**3  # sparse; the 8 GiB image is all there, its clones share its blocks
_DEADLINE_S = 60


class Bench(NamedTuple):
    """What the measurements are given: the farm, the same stages without it, and the images by name."""

    farm: Farm
    row: InARow
    images: dict[str, ImageManifest]


@contextmanager
def running(say: Callable[[str], None]) -> Iterator[Bench]:
    """Start the farm and yield it; stop it and remove everything afterwards."""
    installed = load_settings()
    with TemporaryDirectory(prefix="banger-bench-", dir="/var/tmp") as ground, _xfs(Path(ground)) as disk:
        settings = load_settings(
            state_dir=disk / "state",
            run_dir=disk / "run",
            redis_url=None,
            redis_port=0,
            flower_port=0,
            owner="root",
            disk_backend="reflink",
        )
        say("copying the micro image, making two of 256 MiB and 8 GiB from it")
        micro = copy_store(installed.paths, settings.paths, "micro")
        images = {"micro": micro}
        for name, size_mib in (("small", 256), ("large", 8192)):
            images[name] = resized(settings.paths, micro, name, size_mib)
        say("starting the farm")
        control.up(settings)
        try:
            yield Bench(Farm(settings), _row(settings, disk / "row"), images)
        finally:
            control.down(settings)


def _row(settings: Settings, state: Path) -> InARow:
    row = InARow(settings, state)
    copy_store(settings.paths, row.host.paths, "micro")
    vmm_root.make(row.host.paths.vmm_root, row.host.paths.kernels)
    shutil.copytree(settings.paths.keys, row.host.paths.keys)
    return row


@contextmanager
def _xfs(ground: Path) -> Iterator[Path]:
    """Mount a new XFS. Its file has no name any more by then, so it goes with the mount, come what may."""
    file, mountpoint = ground / "xfs", ground / "mnt"
    mountpoint.mkdir()
    with file.open("wb") as sparse:
        sparse.truncate(_FILE_SYSTEM_BYTES)
    run((find_tool("mkfs.xfs"), "-q", "-m", "reflink=1", str(file)), deadline_s=_DEADLINE_S)
    run((find_tool("mount"), "-o", "loop", str(file), str(mountpoint)), deadline_s=_DEADLINE_S)
    file.unlink()
    mountpoint.chmod(0o711)
    ground.chmod(0o711)
    try:
        yield mountpoint
    finally:
        run((find_tool("umount"), "--recursive", str(mountpoint)), deadline_s=_DEADLINE_S)
