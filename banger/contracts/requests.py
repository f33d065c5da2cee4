"""Stage requests: what each stage is asked, as frozen models that refuse unknown fields.

Undo requests hold the VM's id and generation alone: an undo must work when nothing else is known.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from banger.contracts.names import BatchId, HostName, ImageId, JobId, KernelId, VmId
from banger.contracts.vmm import WantedVmm

MAX_GUEST_FILES = 64
MAX_GUEST_FILE_BYTES = 64 * 1024
MAX_SHUTDOWN_S = 600

_GUEST_PATH = r"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$"

SizeMib = Annotated[int, Field(ge=1, le=16 * 1024 * 1024)]
SlotNumber = Annotated[int, Field(ge=2, le=65_534)]  # the last of a /16
GuestPath = Annotated[str, StringConstraints(pattern=_GUEST_PATH, max_length=200)]
Signal = Literal["TERM", "INT", "KILL"]
RateMib = Annotated[int, Field(ge=1, le=1024 * 1024)]
RateOps = Annotated[int, Field(ge=1, le=100_000_000)]


class Frozen(BaseModel):
    """A value that crosses a queue: immutable, and closed to fields that we do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StageRequest(Frozen):
    """What every request says: which VM, and which of its starts."""

    vm_id: VmId
    generation: Annotated[int, Field(ge=1)]


class GuestFile(Frozen):
    """A regular file of the guest: absolute path, text, permission bits. Its owner is root:root."""

    path: GuestPath
    content: Annotated[str, StringConstraints(max_length=MAX_GUEST_FILE_BYTES)]
    mode: Literal[0o644, 0o755] = 0o644


class Mount(Frozen):
    """One line of the guest's /etc/fstab, in that file's field order."""

    source: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/_=.-]+$", max_length=100)]
    target: GuestPath
    fstype: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+$", max_length=20)]
    options: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9,=_-]+$", max_length=100)]
    dump: Literal[0] = 0
    passno: Literal[0, 2] = 0


# --- unprivileged stages -------------------------------------------------------------------------


class OverlayRequest(StageRequest):
    """Make the VM's directory, host key and sparse overlay file."""

    image: ImageId
    overlay_mib: SizeMib


class WorkDiskRequest(StageRequest):
    """Make the work disk of this size: kept, cloned from the image's seed, or fresh."""

    image: ImageId
    disk_mib: SizeMib


class GrowWorkDiskRequest(StageRequest):
    """Grow the work disk of a stopped VM to this size."""

    disk_mib: SizeMib


class WaitReadyRequest(StageRequest):
    """Wait until the guest answers SSH: lets us in, or, without ``login``, says that it is an SSH server."""

    address: str
    timeout_s: Annotated[float, Field(gt=0, le=600)]
    login: bool = True


class FileSyncRequest(StageRequest):
    """Copy the files that the owner has left for this job into the guest's /root."""

    address: str
    bundle: JobId


class GuestShutdownRequest(StageRequest):
    """Ask the guest to sync and power off, over SSH, and wait this long at most."""

    address: str
    timeout_s: Annotated[float, Field(ge=0, le=MAX_SHUTDOWN_S)]


class ExecRequest(StageRequest):
    """Run a command in the guest, word for word, and stream what it prints."""

    address: str
    argv: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    timeout_s: Annotated[float, Field(gt=0, le=24 * 3600)]


class BatchStageRequest(StageRequest):
    """What is done in a guest for one attempt of a batch's job; the plan says what."""

    address: str
    batch: BatchId
    index: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=1)]


class UploadRequest(BatchStageRequest):
    """Unpack what was uploaded, which host ``home`` has, into the guest's working directory."""

    home: HostName


class WorkRequest(BatchStageRequest):
    """Run the plan's commands in the guest; what they print is written to the job's log on this host."""

    timeout_s: Annotated[float, Field(gt=0, le=24 * 3600)]


class CollectRequest(BatchStageRequest):
    """Bring the plan's artifacts and JUnit files out of the guest."""


class UpdateSpecRequest(StageRequest):
    """Write changed settings of a stopped VM into its record."""

    vcpus: Annotated[int, Field(ge=1, le=64)] | None = None
    memory_mib: SizeMib | None = None
    disk_mib: SizeMib | None = None
    system_overlay_mib: SizeMib | None = None
    autostart: bool | None = None


# --- privileged stages: names and numbers only ---------------------------------------------------


class AdmitRequest(StageRequest):
    """Enter the VM into root's registry with its slot, before its first side effect."""

    slot: SlotNumber


class AttachSystemDiskRequest(StageRequest):
    """Make the system disk of base image and overlay, which grows to that size, owned by the slot's uid."""

    slot: SlotNumber
    image: ImageId
    overlay_mib: SizeMib


class PatchRootfsRequest(StageRequest):
    """Write guest files and the merged /etc/fstab into the system disk, never mounting it.

    The guest's SSH host key is not in the request: root reads it from the VM's directory.
    """

    slot: SlotNumber
    files: Annotated[tuple[GuestFile, ...], Field(max_length=MAX_GUEST_FILES)]
    mounts: Annotated[tuple[Mount, ...], Field(max_length=16)]


class TapRequest(StageRequest):
    """Make the VM's tap on the bridge, isolated and filtered; NAT only where asked."""

    slot: SlotNumber
    nat: bool


class LaunchRequest(StageRequest):
    """Start the VMM under the slot's uid. It ends at ``expires_at`` (epoch seconds), whoever lives then.

    Rates are limits a second: of each disk, and of the network in each direction.
    """

    slot: SlotNumber
    kernel: KernelId
    vcpus: Annotated[int, Field(ge=1, le=64)]
    memory_mib: Annotated[int, Field(ge=64, le=1024 * 1024)]
    expires_at: float | None = None
    vmm: WantedVmm = "auto"
    disk_rate_mib_s: RateMib | None = None
    disk_ops_s: RateOps | None = None
    net_rate_mib_s: RateMib | None = None


class UndoRequest(StageRequest):
    """Undo a stage knowing only the VM's id."""


class KillRequest(UndoRequest):
    """Undo of ``launch``: send this signal, then make sure."""

    signal: Signal = "KILL"
