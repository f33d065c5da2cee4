"""The disk that a farm keeps its memory on is full to the last block, and what frees it goes all the same."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_box import delete_all, eventually
from faulty_farm import Fault, FaultyFarm
from redis.exceptions import ResponseError

from banger.embedded import control

pytestmark = pytest.mark.integration

DISK_MIB = 16 * 1024  # sparse


@contextlib.contextmanager
def on_a_small_disk(faulty: FaultyFarm) -> Iterator[Path]:
    """Move the farm's state to a file system of its own, without a reserve for root, and back."""
    box = faulty.box
    image, state = box.root / "small.img", box.paths.state
    image.touch()
    os.truncate(image, DISK_MIB * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    control.down(box.settings)
    place = box.root / "small"
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    subprocess.run(["cp", "-a", "--sparse=always", f"{state}/.", place], check=True)
    subprocess.run(["umount", place], check=True)
    subprocess.run(["mount", "-o", "loop", image, state], check=True)
    try:
        box.up()
        yield state
    finally:
        control.down(box.settings)
        subprocess.run(["umount", state], check=True)
        place.rmdir()
        image.unlink()
        box.up()


def fill(file: Path) -> None:
    """Take all blocks, which need not be written for it."""
    with file.open("wb") as filler:
        for size in (1 << 30, 1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), size)


def can_write(faulty: FaultyFarm) -> bool:
    """Tell whether Redis takes what is new, which it does not while its own file cannot grow."""
    with contextlib.suppress(ResponseError):
        faulty.box.admin.redis.incr("test")
        return True
    return False


def test_a_vm_can_be_deleted_when_the_farms_disk_is_full(faulty: FaultyFarm) -> None:
    box = faulty.box
    with on_a_small_disk(faulty) as state:
        faulty.expect(Fault("wait_ready", "before", "skip"))
        record = box.farm.create("full")
        eventually(lambda: (box.paths.registry / ".ballast").stat().st_blocks)
        filler = state / "filler"
        fill(filler)
        try:
            eventually(lambda: os.statvfs(state).f_bavail)
            eventually(lambda: can_write(faulty))
            box.farm.delete("full")
            assert not box.traces()
            assert box.farm.records.get(record.id) is None
        finally:
            filler.unlink()
            eventually(lambda: can_write(faulty))
            delete_all(box)
