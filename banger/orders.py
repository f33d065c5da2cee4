"""What the front orders of a worker: a new VM, or a pipeline of one that is there.

Anybody with the CLI's password can write orders, so a worker takes only what is well-formed.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from banger.contracts.names import BatchId, HostName, JobId, VmId
from banger.contracts.requests import MAX_SHUTDOWN_S, Frozen, Signal, SizeMib
from banger.contracts.spec import VmSpec
from banger.pipelines import PIPELINES


def _known(pipeline: str) -> str:
    if pipeline not in PIPELINES:
        raise ValueError("there is no such pipeline")
    return pipeline


class BatchRef(Frozen):
    """Which attempt of which job of a batch; host ``home`` has what was uploaded, where ``uploads`` says so.
    ``collects``: something is to be brought out of the guest."""

    batch: BatchId
    index: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=1)]
    home: HostName
    uploads: bool = False
    collects: bool = False


class Params(Frozen):
    """A job's parameters: what its stages need beside the record. Each pipeline has its own few of them."""

    argv: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)] | None = None
    timeout_s: Annotated[float, Field(ge=0, le=24 * 3600)] | None = None
    signal: Signal | None = None
    vcpus: Annotated[int, Field(ge=1, le=64)] | None = None
    memory_mib: SizeMib | None = None
    disk_mib: SizeMib | None = None
    system_overlay_mib: SizeMib | None = None
    autostart: bool | None = None
    files: bool | None = None
    batch: BatchRef | None = None


class Order(Frozen):
    """Give this VM to this job; where ``rev`` is said, only while its record has that revision."""

    vm: VmId
    job: JobId
    pipeline: Annotated[str, AfterValidator(_known)]
    params: Params = Params()
    rev: int | None = None

    @model_validator(mode="after")
    def _says_what_to_run(self) -> Self:
        stages = {row.stage for row in PIPELINES[self.pipeline].rows}
        if "exec" in stages and not (self.params.argv and self.params.timeout_s):
            raise ValueError("a pipeline that runs a command needs argv and timeout_s")
        if "work" in stages and not (self.params.batch and self.params.timeout_s):
            raise ValueError("a pipeline of a batch's job needs batch and timeout_s")
        if "guest_shutdown" in stages and (self.params.timeout_s or 0) > MAX_SHUTDOWN_S:
            raise ValueError(f"a guest is given {MAX_SHUTDOWN_S // 60}m at most to shut down")
        return self


class NewVm(Order):
    """Make this VM first."""

    spec: VmSpec


class Look(Frozen):
    """Look at what there is on the host, and mend it where ``act`` says so; ``id`` names the report."""

    id: JobId
    act: bool


class Unwinding(Frozen):
    """Undo what this job has done."""

    job: JobId
