"""Loop devices that clear themselves.

LOOP_CONFIGURE (Linux 5.8) takes a descriptor and all flags in one step. With losetup there would be a name
to swap between check and use, and a moment in which a killed worker leaks the device; here the kernel clears
it when its last user closes it: us, or the device-mapper device that was put on top.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from banger.contracts import linux
from banger.contracts.errors import StageFailedError

_ATTEMPTS = 10


@contextmanager
def attached(file: int, *, read_only: bool) -> Iterator[Path]:
    """Yield a loop device over an opened file; it lives while this block or another user has it open.

    Bases are read through the page cache, which all their VMs share; a VM's own file by direct I/O, as its
    blocks are cached above already. StageFailedError when no device can be had.
    """
    flags = linux.LO_FLAGS_AUTOCLEAR | (linux.LO_FLAGS_READ_ONLY if read_only else linux.LO_FLAGS_DIRECT_IO)
    path, device = _configure(linux.loop_config(file, flags), read_only)
    try:
        yield path
    finally:
        os.close(device)


def _configure(config: bytes, read_only: bool) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        path = _free()
        try:
            device = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StageFailedError(
                f"The kernel's free loop device is {path.name}, and {path} is not there",
                details="in a container, /dev has no more of them than were put there",
                resolution=f"mknod {path} b 7 {path.name.removeprefix('loop')}, or `losetup --detach` one.",
            ) from error
        try:
            fcntl.ioctl(device, linux.LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:  # another program took the free one first
                raise StageFailedError(f"{path} could not be set up: {error.strerror}") from error
        else:
            return path, device
    raise StageFailedError(f"No loop device could be had in {_ATTEMPTS} attempts")


def _free() -> Path:
    """Return a free loop device, which the kernel makes where there is none."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            return Path(f"/dev/loop{fcntl.ioctl(control, linux.LOOP_CTL_GET_FREE)}")
        finally:
            os.close(control)
    except OSError as error:
        raise StageFailedError(
            f"This host gives no loop device: {error.strerror}",
            details="a snapshot needs two, of which those of ended VMs clear themselves",
            resolution="`losetup --list` shows who has them; without any, `modprobe loop`.",
        ) from error
