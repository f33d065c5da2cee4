"""KVM or emulation: what a probe found, and whom /dev/kvm lets in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

KVM = Path("/dev/kvm")

_READ_WRITE = 0o6

Accelerator = Literal["kvm", "tcg"]


class Verdict(BaseModel):
    """What a probe boot found, for as long as neither the host's boot nor QEMU is another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boot_id: str
    qemu: str
    works: bool
    reason: str


def proven(said: bytes, boot_id: str) -> bool:
    """Tell whether a probe's file says that KVM works, and is of this boot; False where it says nothing."""
    try:
        verdict = Verdict.model_validate_json(said)
    except ValidationError:
        return False
    return verdict.works and verdict.boot_id == boot_id


def groups_needed(device: os.stat_result) -> tuple[int, ...] | None:
    """Return the groups that a VMM needs to open /dev/kvm, often none; None where no group would do."""
    if device.st_mode & _READ_WRITE == _READ_WRITE:
        return ()
    if device.st_gid != 0 and stat.S_IMODE(device.st_mode) >> 3 & _READ_WRITE == _READ_WRITE:
        return (device.st_gid,)
    return None
