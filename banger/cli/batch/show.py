"""``banger batch show``: all that is known of a batch, or of one of its jobs, for who must explain it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from banger.cli import options
from banger.cli.batch.facts import batch_facts
from banger.cli.batch.refs import BatchRef, SomeBatchJob, find_job
from banger.cli.columns import columns, pairs, print_json
from banger.cli.failure import printable
from banger.cli.session import session_of
from banger.cli.timeline import timeline_text
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.batch.expand import JobPlan
    from banger.batch.plan import Plan
    from banger.batch.state import Attempt, BatchInfo, JobState
    from banger.farm import Farm

_ATTEMPTS = ("TRY", "VERDICT", "STAGE", "EXIT", "BEGAN", "TOOK", "HOST", "VM", "REASON")
_NAMED_FILES = 20


def show(ctx: typer.Context, batch: BatchRef, job: SomeBatchJob = None, as_json: options.Json = False) -> int:
    """Show a batch's exact plan; or a job's attempts, stage by stage.

    The plan is what `banger batch run` takes. Of secrets it has the names alone.

    \b
    Examples:
      banger batch show last
      banger batch show last > again.yaml
      banger batch show unit-tests 3
      banger batch show unit-tests 3 --json
    """
    farm = session_of(ctx).farm
    store = farm.batches.store
    info = store.find(batch)
    plan = store.plan(info.id)
    if job is None:
        _show_batch(info, plan, as_json=as_json)
    else:
        _show_job(farm, info, plan, find_job(store, info, job), as_json=as_json)
    return 0


def _show_batch(info: BatchInfo, plan: Plan, *, as_json: bool) -> None:
    from banger.batch.plan_text import plan_yaml

    if as_json:
        print_json({"batch": info.model_dump(mode="json"), "plan": plan.model_dump(mode="json")})
        return
    # As comments, so that the whole of it is a plan.
    facts = "\n".join(f"# {line}" for line in pairs(batch_facts(info)).splitlines())
    typer.echo(f"{facts}\n{printable(plan_yaml(plan))}", nl=False)


def _show_job(farm: Farm, info: BatchInfo, plan: Plan, job: JobState, *, as_json: bool) -> None:
    from banger.batch.expand import expand, job_env

    planned = expand(plan)[job.index]
    timelines = {attempt.number: farm.events.read(attempt.vm) for attempt in job.attempts}
    if as_json:
        events = {number: [one.model_dump(mode="json") for one in told] for number, told in timelines.items()}
        variables = {name: value for name, value in job_env(plan, planned).items() if name not in plan.env}
        print_json(
            {
                "batch": info.model_dump(mode="json"),
                "job": job.model_dump(mode="json"),
                "variables": variables,
                "timelines": events,
            }
        )
        return
    typer.echo(pairs(_facts(farm, info, plan, planned, job)))
    if job.attempts:
        typer.echo(f"\n{columns(_ATTEMPTS, [_cells(attempt) for attempt in job.attempts])}")
    for number, told in timelines.items():
        said = timeline_text(told) or "its VM's timeline is not known any more"
        typer.echo(f"\nAttempt {number}\n{said}")


def _facts(
    farm: Farm, info: BatchInfo, plan: Plan, planned: JobPlan, job: JobState
) -> list[tuple[str, object]]:
    from banger.batch.expand import job_env
    from banger.batch.verdict import describe

    variables = {name: value for name, value in job_env(plan, planned).items() if name.startswith("BANGER_")}
    files = variables.pop("BANGER_SHARD_FILES", "").split()
    facts: list[tuple[str, object]] = [
        ("Batch", f"{info.id} ({info.name})"),
        ("Job", f"{job.index}: {job.title}"),
        ("State", describe(job)),
        ("Image", _image(info, plan, job)),
        ("Host", job.host or ""),
        ("VM", _vm(farm, info, plan, job)),
        ("Commands", "\n".join(command.strip("\n") for command in (*plan.setup, *plan.run))),
        ("Variables", "\n".join(f"{name}={value}" for name, value in variables.items())),
    ]
    if files:
        more = f"\nand {len(files) - _NAMED_FILES} more" if len(files) > _NAMED_FILES else ""
        facts.append(("Its files", "\n".join(files[:_NAMED_FILES]) + more))
    if job.tests:
        facts.append(("Tests", _tests(job)))
    if job.files:
        facts.append(("Files left", ", ".join(f"{count} of {kind}" for kind, count in job.files.items())))
    if job.notes:
        facts.append(("Notes", "\n".join(job.notes)))
    return facts


def _image(info: BatchInfo, plan: Plan, job: JobState) -> str:
    name = job.matrix.get("image", plan.image)
    return f"{name} ({info.image_id})" if name == plan.image and info.image_id else name


def _vm(farm: Farm, info: BatchInfo, plan: Plan, job: JobState) -> str:
    if job.vm is None:
        return ""
    named = f"{job.vm_name} ({job.vm})"
    record = farm.records.get(job.vm)
    if record is None:
        return f"{named}, which is gone"
    if not job.vm_kept:
        return f"{named}, {record.state}"
    until = (job.ended_at or time.time()) + plan.keep_ttl_s
    left = f" for {format_duration(max(0.0, until - time.time()))} yet"
    return (
        f"{named}, {record.state}, kept{left}\n`banger batch debug {info.id} {job.index}` opens a shell in it"
    )


def _tests(job: JobState) -> str:
    tests: Any = job.tests
    counts = (
        f"{tests.tests}, of which {tests.failures} failed, {tests.errors} had errors, {tests.skipped} skipped"
    )
    return "\n".join((counts, *tests.failed))


def _cells(attempt: Attempt) -> tuple[object, ...]:
    until = time.time() if attempt.ended_at is None else attempt.ended_at
    return (
        attempt.number,
        attempt.verdict or "at work",
        attempt.stage or "",
        "" if attempt.exit_code is None else attempt.exit_code,
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.began_at)),
        format_duration(until - attempt.began_at),
        attempt.host or "",
        attempt.vm,
        " ".join((attempt.reason or "").split()),
    )
