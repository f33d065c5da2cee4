"""Reading about batches: the list of them, and how one stands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import options
from banger.cli.batch_refs import BatchRef
from banger.cli.columns import columns, pairs, print_json
from banger.cli.session import session_of
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.batch.state import BatchInfo, JobState
    from banger.farm import Farm

_HEADING = ("BATCH", "NAME", "STATE", "DONE", "IMAGE", "AGE", "OUTCOME")
_JOBS = ("JOB", "WHAT", "STATE", "STAGE", "HOST", "VM", "TRIES", "TOOK", "EXIT", "REASON")
_ENDED_SHOWN = 20


def list_(
    ctx: typer.Context,
    all_: Annotated[
        bool, typer.Option("--all", "-a", help=f"All that ended within a week, not only {_ENDED_SHOWN}.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """List batches, first those that go on.

    \b
    Examples:
      banger batch list
      banger batch list --all --json
    """
    known = session_of(ctx).farm.batches.store.all()[::-1]
    ended = [info for info in known if info.state == "ended"]
    shown = [info for info in known if info.state != "ended"] + ended[: None if all_ else _ENDED_SHOWN]
    if as_json:
        print_json([batch_json(info) for info in shown])
        return 0
    typer.echo(columns(_HEADING, [_cells(info) for info in shown]))
    if left_out := len(known) - len(shown):
        typer.echo(f"banger: {left_out} older ones are left out; --all shows them", err=True)
    return 0


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
        stages = stages_at_work(farm, jobs)
        typer.echo(f"\n{columns(_JOBS, [_job_cells(job, stages.get(job.index)) for job in jobs])}")
    return 0


def schema(ctx: typer.Context) -> int:
    """Print the JSON Schema of a plan's file.

    \b
    Examples:
      banger batch schema > plan.schema.json
    """
    from banger.batch.load import schema as plan_schema

    print_json(plan_schema())
    return 0


def batch_json(info: BatchInfo) -> dict[str, Any]:
    """Return a batch as programs are shown it; ``exit_code`` is None until it has ended."""
    return info.model_dump(mode="json") | {"exit_code": exit_code_of(info)}


def exit_code_of(info: BatchInfo) -> int | None:
    """Return what ``banger batch run`` ends with for this batch, None while it goes on."""
    from banger.batch.state import Verdict
    from banger.batch.verdict import exit_code

    if info.state != "ended":
        return None
    return exit_code(verdict for verdict in Verdict if info.counts.get(verdict, 0))


def batch_facts(info: BatchInfo) -> list[tuple[str, object]]:
    """Return what there is to know of a batch, without its jobs."""
    from banger.batch.verdict import headline

    facts: list[tuple[str, object]] = [
        ("Batch", info.id),
        ("Name", info.name),
        ("State", info.state),
        ("Image", f"{info.image} ({info.image_id})" if info.image_id else info.image),
        ("Submitted", f"{_when(info.created_at)} on {info.host}"),
        ("Jobs", headline(info)),
    ]
    if info.state == "ended":
        took = format_duration((info.ended_at or info.created_at) - info.created_at)
        facts.append(("Ended", f"{_when(info.ended_at or info.created_at)}, after {took}"))
        facts.append(("Exit code", exit_code_of(info)))
    else:
        facts.append(("At work", _at_work(info)))
        facts.append(("Ends", f"in {format_duration(info.deadline_at - time.time())}, done or not"))
    if info.why:
        facts.append(("Next waits", info.why))
    if info.reason:
        facts.append(("Cancelled", info.reason))
    return facts


def stages_at_work(farm: Farm, jobs: Iterable[JobState]) -> dict[int, str]:
    """Return the stage that each job's VM is in, of those that are at work, by the job's number."""
    from banger.jobs import job_info

    at_work = {job.job: job.index for job in jobs if job.job and job.state in ("starting", "running")}
    known = farm.records.jobs_of([*at_work]) if at_work else {}
    stages = {at_work[key]: job_info(job, None, cancelled=False).stage for key, job in known.items()}
    return {index: stage for index, stage in stages.items() if stage}


def attempt_words(job: JobState) -> str:
    """Return how often a job was tried, where that was more than once."""
    return str(job.attempt) if job.attempts else ""


def _at_work(info: BatchInfo) -> str:
    count = info.counts.get
    words = [f"{count(phase, 0)} {phase}" for phase in ("running", "starting", "waiting")]
    limit = f" ({info.parallel} at once)" if info.parallel else ""
    return ", ".join(words) + limit


def _cells(info: BatchInfo) -> tuple[object, ...]:
    from banger.batch.verdict import headline

    done = f"{info.done}/{info.total}"
    age = format_duration(time.time() - info.created_at)
    return info.id, info.name, info.state, done, info.image, age, headline(info)


def _job_cells(job: JobState, stage: str | None) -> Sequence[object]:
    return (
        job.index,
        job.title,
        job.verdict or job.state,
        stage or job.stage or "",
        job.host or "",
        _vm(job),
        attempt_words(job),
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


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))
