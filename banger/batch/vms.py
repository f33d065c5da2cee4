"""The VM of an attempt: its name, its specification, and the order that makes it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from banger.batch.expand import JobPlan, expand, vm_of
from banger.batch.judging import keep_of
from banger.batch.plan import Plan
from banger.batch.state import Attempt, BatchInfo, JobState
from banger.contracts.names import is_id, new_id
from banger.contracts.spec import VmSpec
from banger.orders import BatchRef, NewVm, Params
from banger.pipelines import BATCH_JOB, BATCH_JOB_KEEP
from banger.records import Record
from banger.settings import Settings
from banger.wanted import wanted_spec


class Planned(NamedTuple):
    """A plan, and the jobs that it comes to."""

    plan: Plan
    jobs: tuple[JobPlan, ...]

    @classmethod
    def of(cls, plan: Plan) -> Planned:
        """Return the plan with its jobs."""
        return cls(plan, expand(plan))


_SPARE_S = 1800.0  # on top of all that an attempt may take, until its VM ends of itself


def begun(info: BatchInfo, old: JobState, now: float) -> JobState:
    """Return a job that waited as its next attempt begins: with a VM and a job of the farm's, by id."""
    vm, job = new_id(), new_id()
    number = old.attempt + 1
    attempt = Attempt(number=number, vm=vm, job=job, began_at=now)
    return JobState(
        index=old.index,
        title=old.title,
        matrix=old.matrix,
        state="starting",
        vm=vm,
        vm_name=_vm_name(info, old.index, number),
        job=job,
        began_at=now,
        attempts=(*old.attempts, attempt),
        keep=old.keep,
    )


def placed(old: JobState, host: str) -> JobState:
    """Return a job that was taken as it runs on a host."""
    attempts = (*old.attempts[:-1], old.attempts[-1].model_copy(update={"host": host}))
    return old.model_copy(update={"state": "running", "host": host, "attempts": attempts})


def taken_back(old: JobState) -> JobState:
    """Return a job whose attempt did not begin as it waits again: as if it had never been taken."""
    return old.waiting(old.attempts[:-1], keep=old.keep)


def attempt_order(settings: Settings, info: BatchInfo, planned: Planned, state: JobState) -> NewVm:
    """Return the order that carries out a job's last attempt; InvalidInputError where its VM is not valid."""
    plan, attempt = planned.plan, state.attempts[-1]
    pipeline = BATCH_JOB if keep_of(plan, state) == "never" else BATCH_JOB_KEEP
    return NewVm(
        vm=attempt.vm,
        job=attempt.job,
        pipeline=pipeline.name,
        spec=vm_spec(settings, info, planned, state),
        params=Params(
            timeout_s=plan.timeout_s,
            batch=BatchRef(
                batch=info.id,
                index=state.index,
                attempt=attempt.number,
                home=info.host,
                uploads=bool(plan.upload),
                collects=bool(plan.artifacts or plan.junit),
            ),
        ),
    )


def vm_spec(settings: Settings, info: BatchInfo, planned: Planned, state: JobState) -> VmSpec:
    """Return the VM that a job wants; what the plan does not say is as configured.

    It ends of itself some time after all that an attempt may take, should nobody else end it.
    """
    plan = planned.plan
    vm = {name: value for name, value in plan.vm.model_dump().items() if value is not None}
    vm |= vm_of(plan, planned.jobs[state.index])
    keep_s = 0.0 if keep_of(plan, state) == "never" else plan.keep_ttl_s
    return wanted_spec(
        settings,
        state.vm_name or "job",
        vm
        | {
            "image": vm.get("image", plan.image),
            "host": plan.host,
            "ttl_s": _SPARE_S + plan.timeout_s + keep_s,
            "labels": {"batch": info.id, "job": str(state.index)},
            "ephemeral": True,
        },
    )


def as_placed(info: BatchInfo, spec: VmSpec) -> VmSpec:
    """Return the VM as a host is looked for that can take it: with the very image that the batch began with.

    Its record says the image's name, as everybody's does.
    """
    pinned = info.image_id if spec.image == info.image else None
    return spec.model_copy(update={"image": pinned}) if pinned else spec


def batch_labels(record: Record) -> tuple[str, int] | None:
    """Return the batch and the index of its job that a VM's labels name; anybody may write such ones."""
    batch, index = record.spec.labels.get("batch", ""), record.spec.labels.get("job", "")
    return (batch, int(index)) if is_id(batch) and re.fullmatch(r"[0-9]{1,5}", index) else None


def _vm_name(info: BatchInfo, index: int, attempt: int) -> str:
    again = f"-{attempt}" if attempt > 1 else ""
    return f"{info.name}-{info.id[:6]}-{index}{again}"
