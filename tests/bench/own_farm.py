"""A farm of the benchmark's own: state on an XFS in a loop file, images beside it, gone at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from banger.embedded import control, vmm_root
from banger.embedded.plan import Plan
from banger.embedded.services import settings_environment
from banger.farm import Farm
from banger.images.manifest import ImageManifest
from banger.settings import Settings, load_settings
from banger.shell import find_tool, run
from tests.bench.images import copy_store, resized
from tests.bench.in_a_row import InARow
from tests.leftovers import beside_others

_FILE_SYSTEM_BYTES = 24 * 1024**3  # sparse; the 8 GiB image is all there, its clones share its blocks
_DEADLINE_S = 60
GROWN = {"small": 256, "large": 8192}  # MiB


class Bench(NamedTuple):
    """What the measurements are given: the farm, the same stages without it, and the images by name.

    ``say`` tells whoever waits how far it is.
    """

    say: Callable[[str], None]
    farm: Farm
    row: InARow
    images: dict[str, ImageManifest]

    @property
    def environment(self) -> dict[str, str]:
        """What a banger command needs to find this farm."""
        return dict(os.environ) | settings_environment(self.farm.settings)


def as_planned(plan: Plan, _ground: Path) -> Plan:
    """Change nothing."""
    return plan


@contextmanager
def running(
    say: Callable[[str], None],
    *,
    grown: Mapping[str, int] = GROWN,
    change: Callable[[Plan, Path], Plan] = as_planned,
) -> Iterator[Bench]:
    """Start the farm and yield it; stop it and remove everything afterwards.

    ``grown``: images that are made of the micro one, by name, with their sizes in MiB. ``change`` makes the
    plan that is carried out of the farm's own, and a directory for what its services need.
    """
    installed = load_settings()
    with (
        beside_others(),  # tests would take what is here for theirs
        TemporaryDirectory(prefix="banger-bench-", dir="/var/tmp") as ground,
        _xfs(Path(ground)) as disk,
    ):
        settings = load_settings(
            state_dir=disk / "state",
            run_dir=disk / "run",
            redis_url=None,
            redis_port=0,
            flower_port=0,
            owner="root",
            disk_backend="reflink",
        )
        made = "".join(f", growing one to {size_mib} MiB" for size_mib in grown.values())
        say(f"copying the micro image{made}")
        micro = copy_store(installed.paths, settings.paths, "micro")
        images = {"micro": micro}
        for name, size_mib in grown.items():
            images[name] = resized(settings.paths, micro, name, size_mib)
        say("starting the farm")
        _up(settings, lambda plan: change(plan, Path(ground)))
        try:
            yield Bench(say, Farm(settings), row_beside(settings, disk / "row"), images)
        finally:
            control.down(settings)


def _up(settings: Settings, change: Callable[[Plan], Plan]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        planned = control.farm_plan
        patch.setattr(control, "farm_plan", lambda *given: change(planned(*given)))
        control.up(settings)


def row_beside(settings: Settings, state: Path) -> InARow:
    """Return the same stages without the farm, with copies of what they need of it.

    ``state`` has mounts from then on, and goes with the benchmark's file system alone.
    """
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
