"""``banger batch status``: how a batch stands, and each of its jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.batch.facts import batch_facts, exit_code_of
from banger.cli.batch.refs import BatchRef
from banger.cli.columns import columns, pairs, print_json
from banger.cli.session import session_of
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.batch.state import JobState
    from banger.farm import Farm

_JOBS = ("JOB", "WHAT", "STATE", "STAGE", "HOST", "VM", "TRIES", "TOOK", "EXIT", "REASON")


def status(
    ctx: typer.Context,
    batch: BatchRef,
    failed: Annotated[bool, typer.Option("--failed", help="Only jobs that ended, and did not pass.")] = False,
    as_json: options.Json = False,
) -> int:
    """Show how a batch stands, and each of its jobs.

    \b
    Examples:
      banger batch status last
      banger batch status unit-tests --failed
      banger batch status 1f0c9d2e7a55 --json
    """
    farm = session_of(ctx).farm
    info = farm.batches.store.find(batch)
    jobs = farm.batches.store.jobs(info.id)
    if failed:
        jobs = [job for job in jobs if job.verdict not in (None, "passed")]
    if as_json:
        print_json(
            {
                "batch": info.model_dump(mode="json"),
                "jobs": [job.model_dump(mode="json") for job in jobs],
                "exit_code": exit_code_of(info),
            }
        )
        return 0
    typer.echo(pairs(batch_facts(info)))
    if jobs:
        stages = _stages_at_work(farm, jobs)
        typer.echo(f"\n{columns(_JOBS, [_job_cells(job, stages.get(job.index)) for job in jobs])}")
    return 0


def _stages_at_work(farm: Farm, jobs: Iterable[JobState]) -> dict[int, str]:
    """Return the stage that each job's VM is in, of those that are at work, by the job's number."""
    from banger.jobs import job_info

    at_work = {job.job: job.index for job in jobs if job.job and job.state in ("starting", "running")}
    known = farm.records.jobs_of([*at_work]) if at_work else {}
    stages = {at_work[key]: job_info(job, None, cancelled=False).stage for key, job in known.items()}
    return {index: stage for index, stage in stages.items() if stage}


def _job_cells(job: JobState, stage: str | None) -> Sequence[object]:
    return (
        job.index,
        job.title,
        job.verdict or job.state,
        stage or job.stage or "",
        job.host or "",
        _vm(job),
        job.attempt or "",
        _took(job),
        "" if job.exit_code is None else job.exit_code,
        " ".join((job.reason or "").split()),
    )


def _vm(job: JobState) -> str:
    """Return the VM that there is of a job: at work, or kept."""
    return (job.vm_name or "") if job.vm_kept or job.state in ("starting", "running") else ""


def _took(job: JobState) -> str:
    if job.began_at is None:
        return ""
    until = time.time() if job.ended_at is None else job.ended_at
    return format_duration(until - job.began_at)
