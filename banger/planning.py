"""From a record and a pipeline to the calls that carry it out: pure, and made on the VM's own host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from banger.contracts.calls import StageCall
from banger.contracts.names import Slot, slot
from banger.contracts.requests import (
    AdmitRequest,
    AttachSystemDiskRequest,
    CollectRequest,
    ExecRequest,
    FileSyncRequest,
    GrowWorkDiskRequest,
    GuestShutdownRequest,
    KillRequest,
    LaunchRequest,
    OverlayRequest,
    PatchRootfsRequest,
    StageRequest,
    TapRequest,
    UndoRequest,
    UpdateSpecRequest,
    UploadRequest,
    WaitReadyRequest,
    WorkDiskRequest,
    WorkRequest,
)
from banger.contracts.stages import STAGES, Side
from banger.contracts.states import State
from banger.guest import guest_files, guest_mounts
from banger.pipelines import BATCH, FILES_LEFT, Pipeline, Row
from banger.records import Job, Record


@dataclass(frozen=True)
class Plan:
    """What requests are made of: the record, its slot on this host, the job and its parameters.

    ``names``: the host has a name server of the farm's.
    """

    record: Record
    slot: Slot
    job: str
    params: dict[str, Any]
    names: bool = False

    @property
    def name_servers(self) -> tuple[str, ...]:
        """What the guest asks: the farm's first, which knows VMs and refuses all else at once."""
        return (*((str(self.slot.gateway),) if self.names else ()), self.record.spec.dns)

    @property
    def of(self) -> dict[str, Any]:
        """What every request says."""
        return {"vm_id": self.record.id, "generation": self.record.generation}

    @property
    def attempt(self) -> dict[str, Any]:
        """What the request of a batch's stage says beside that."""
        ours = {name: self.params[BATCH][name] for name in ("batch", "index", "attempt")}
        return self.of | ours | {"address": str(self.slot.address)}


_DO: dict[str, Callable[[Plan], StageRequest]] = {
    "admit": lambda p: AdmitRequest(**p.of, slot=p.slot.number),
    "overlay": lambda p: OverlayRequest(
        **p.of, image=p.record.image, overlay_mib=p.record.spec.system_overlay_mib
    ),
    "attach_system_disk": lambda p: AttachSystemDiskRequest(
        **p.of,
        slot=p.slot.number,
        image=p.record.image,
        overlay_mib=p.record.spec.system_overlay_mib,
    ),
    "patch_rootfs": lambda p: PatchRootfsRequest(
        **p.of,
        slot=p.slot.number,
        files=guest_files(p.record.name, p.slot, p.name_servers),
        mounts=guest_mounts(),
    ),
    "work_disk": lambda p: WorkDiskRequest(**p.of, image=p.record.image, disk_mib=p.record.spec.disk_mib),
    "tap": lambda p: TapRequest(**p.of, slot=p.slot.number, nat=p.record.spec.nat),
    "launch": lambda p: LaunchRequest(
        **p.of,
        slot=p.slot.number,
        kernel=p.record.kernel,
        vcpus=p.record.spec.vcpus,
        memory_mib=p.record.spec.memory_mib,
        expires_at=p.record.expires_at,
        vmm=p.record.spec.vmm,
        disk_rate_mib_s=p.record.spec.disk_rate_mib_s,
        disk_ops_s=p.record.spec.disk_ops_s,
        net_rate_mib_s=p.record.spec.net_rate_mib_s,
    ),
    # A batch's next stage logs in itself, and a login costs a guest under emulation half a second.
    "wait_ready": lambda p: WaitReadyRequest(
        **p.of,
        address=str(p.slot.address),
        timeout_s=p.record.spec.ready_timeout_s,
        login=BATCH not in p.params,
    ),
    "file_sync": lambda p: FileSyncRequest(**p.of, address=str(p.slot.address), bundle=p.job),
    "exec": lambda p: ExecRequest(
        **p.of, address=str(p.slot.address), argv=tuple(p.params["argv"]), timeout_s=p.params["timeout_s"]
    ),
    "upload": lambda p: UploadRequest(**p.attempt, home=p.params[BATCH]["home"]),
    "work": lambda p: WorkRequest(**p.attempt, timeout_s=p.params["timeout_s"]),
    "collect": lambda p: CollectRequest(**p.attempt),
    "guest_shutdown": lambda p: GuestShutdownRequest(
        **p.of, address=str(p.slot.address), timeout_s=p.params.get("timeout_s", 0)
    ),
    "grow_work_disk": lambda p: GrowWorkDiskRequest(
        **p.of, disk_mib=p.params.get("disk_mib") or p.record.spec.disk_mib
    ),
    "update_spec": lambda p: UpdateSpecRequest(**p.of, **p.params),
}


def calls(
    pipeline: Pipeline,
    record: Record,
    job: Job,
    network: IPv4Network,
    uid_base: int,
    *,
    names: bool = False,
) -> list[StageCall]:
    """Return a job's calls in order. ``reserve`` is not among them: the control queue has done it.

    A record without a slot (its create failed, and gave it back) can only be undone. ``names``: the farm's
    name server is one of the guest's.
    """
    plan = None
    if record.slot:
        plan = Plan(record, slot(record.slot, network, uid_base), job.id, job.params, names)
    steps = []
    # A guest that was given time to shut down, and did not take it, is asked once more: by its VMM.
    asked = bool(job.params.get("timeout_s")) and any(row.stage == "guest_shutdown" for row in pipeline.rows)
    for step, row in pipeline.steps.items():
        if row == ("do", "reserve") or (plan is None and row.use != "undo"):
            continue
        if not wanted(row.stage, job):
            continue
        if plan and row.use != "undo":
            request = _DO[row.stage](plan)
        else:
            request = _undo(row.stage, record, job, mildly=asked)
        steps.append(_row_call(pipeline, step, row, request, record, job))
    return _ending(steps, pipeline.after, release=pipeline.after is State.GONE)


def bare_calls(pipeline: Pipeline, record: Record, job: Job) -> list[StageCall]:
    """Return a job's calls without what they ask for: who reports of a step needs no more.

    For a job whose requests cannot be made (see ``calls``).
    """
    bare = StageRequest(vm_id=record.id, generation=record.generation)
    return [
        _row_call(pipeline, step, row, bare, record, job)
        for step, row in pipeline.steps.items()
        if row != ("do", "reserve")
    ]


def wanted(stage: str, job: Job) -> bool:
    """Tell whether a job has something for a stage to do: files that were left, uploaded, or wanted."""
    match stage:
        case "file_sync":
            return bool(job.params.get(FILES_LEFT))
        case "upload":
            return bool(job.params.get(BATCH, {}).get("uploads"))
        case "collect":
            return bool(job.params.get(BATCH, {}).get("collects"))
    return True


def unwinding_calls(pipeline: Pipeline, record: Record, job: Job) -> list[StageCall]:
    """Return the undo calls of a failed job, the last row first.

    What a VMM that would not die may still write to is kept: every undo after ``launch`` requires it. And
    root forgets no VM that it has something of still: what it does not know it never removes.
    """
    steps: list[StageCall] = []
    launch: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    for number, stage in enumerate(pipeline.unwinding):
        step, requires = f"u{number:02d}", roots if stage == "admit" else launch
        steps.append(_call(step, stage, "undo", _undo(stage, record, job), record, job, requires=requires))
        if stage == "launch":
            launch = (step,)
        if STAGES[stage].side is Side.ROOT:
            roots += (step,)
    creating = "reserve" in pipeline.unwinding
    vanishes = creating and (record.spec.ephemeral or (job.error or {}).get("kind") == "CancelledError")
    return _ending(steps, State.GONE if vanishes else State.ERROR, release=creating)


def _undo(stage: str, record: Record, job: Job, *, mildly: bool = False) -> StageRequest:
    of = {"vm_id": record.id, "generation": record.generation}
    if stage == "launch":
        return KillRequest(**of, signal=job.params.get("signal", "TERM" if mildly else "KILL"))
    return UndoRequest(**of)


def _row_call(
    pipeline: Pipeline, step: str, row: Row, request: StageRequest, record: Record, job: Job
) -> StageCall:
    return _call(step, row.stage, row.direction, request, record, job, fails_to=pipeline.fails_to(row))


def _call(
    step: str, stage: str, direction: Any, request: StageRequest, record: Record, job: Job, **more: Any
) -> StageCall:
    return StageCall(
        job=job.id,
        pipeline=job.pipeline,
        step=step,
        stage=stage,
        direction=direction,
        host=record.host,
        request=request.model_dump(mode="json"),
        **more,
    )


def _ending(steps: list[StageCall], state: State, *, release: bool) -> list[StageCall]:
    last = steps[-1].model_copy(update={"final": str(state), "release": release})
    return [*steps[:-1], last]
