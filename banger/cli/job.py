"""The group ``banger job``: what the workers are at, and how to stop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.columns import columns, pairs, print_json
from banger.cli.completion import job_ids
from banger.cli.group import command, group
from banger.cli.session import session_of
from banger.cli.several import each
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.events import Event
    from banger.farm import Farm
    from banger.jobs import JobInfo, Step

app = group("Look at jobs, each one run of a pipeline for a VM, and cancel them.")

_HEADING = ("JOB", "VM", "PIPELINE", "STATE", "STAGE", "AGE", "HOST")
_STEPS = ("STEP", "STAGE", "MARK", "ATTEMPTS", "QUEUE", "AT", "TOOK", "")

JobRef = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=job_ids)]
JobRefs = Annotated[list[str], typer.Argument(metavar="JOB", help="Jobs by id.", autocompletion=job_ids)]


@command(app, "list")
def list_(
    ctx: typer.Context,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Also those that ended within a week.")] = False,
    as_json: options.Json = False,
) -> int:
    """List jobs that are not over, the oldest first. AGE counts from their beginning.

    One that takes longer than its stages may is marked as overdue.

    \b
    Examples:
      banger job list
      banger job list --all
      banger job list --json
    """
    jobs = session_of(ctx).farm.jobs(ended=all_)
    if as_json:
        print_json([job.model_dump(mode="json") for job in jobs])
    else:
        typer.echo(columns(_HEADING, [_cells(job) for job in jobs]))
    return 0


@command(app, "show")
def show(ctx: typer.Context, job: JobRef, as_json: options.Json = False) -> int:
    """Show a job and its steps: how each stands, how often it was begun, how long it took.

    \b
    Examples:
      banger job show c020f40cc80c
      banger job show c020f40cc80c --json
    """
    farm = session_of(ctx).farm
    info, steps = farm.job(job), farm.job_steps(job)
    if as_json:
        more = {"steps": [step.model_dump(mode="json") for step in steps]}
        print_json(info.model_dump(mode="json") | more)
        return 0
    typer.echo(pairs(_facts(info)))
    typer.echo(f"\n{columns(_STEPS, [_step_cells(step, info) for step in steps])}")
    return 0


@command(app, "cancel")
def cancel(
    ctx: typer.Context,
    jobs: JobRefs,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all is undone, or only ask.")
    ] = True,
    quiet: options.Quiet = False,
) -> int:
    """Stop jobs between two of their stages and undo what they did.

    A create, a run and a start can be cancelled. What undoes things itself (stop, restart, kill, delete) or
    changes a VM in one go (set) is refused: cut off in the middle it would leave neither one nor the other.

    \b
    Examples:
      banger job cancel c020f40cc80c
      banger job cancel c020f40cc80c 5d1f0a4e77b2 --no-wait
    """
    farm = session_of(ctx).farm

    def verb(job: str, on_event: Callable[[Event], None]) -> str:
        farm.cancel(job)
        return _became(farm.wait_for(job, on_event), farm) if wait else "asked to stop"

    return each(jobs, verb, quiet=quiet)


def _became(job: JobInfo, farm: Farm) -> str:
    """Return what a job came to that was asked to stop, and what its VM is now."""
    record = farm.records.get(job.vm)
    vm = f"VM {record.name} is {record.state}" if record else f"VM {job.vm} is gone"
    error = job.error or {}
    if job.state == "done":
        return f"it had ended before it could be cancelled; {vm}"
    if error.get("kind") != "CancelledError":
        return f"it failed before it could be cancelled, {error.get('brief', '')}; {vm}"
    return f"cancelled; {vm}"


def _cells(job: JobInfo) -> tuple[object, ...]:
    return (job.id, job.name or job.vm, job.pipeline, _state(job), job.stage or "", _age(job), job.host or "")


def _state(job: JobInfo) -> str:
    state = "cancelling" if job.cancelled and job.state == "running" else job.state
    if state == "failed" and (job.error or {}).get("kind") == "CancelledError":
        state = "cancelled"
    return f"{state},overdue" if job.deadline_at is not None and job.deadline_at < time.time() else state


def _age(job: JobInfo) -> str:
    return "" if job.began_at is None else format_duration(time.time() - job.began_at)


def _facts(job: JobInfo) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("Job", job.id),
        ("VM", f"{job.name} ({job.vm})" if job.name else f"{job.vm}, which is gone"),
        ("Host", job.host or ""),
        ("Pipeline", job.pipeline),
        ("State", _state(job)),
        ("Stage", job.stage or ""),
        ("Age", _age(job)),
        ("Cancel", _cancel(job)),
    ]
    if job.deadline_at is not None:
        facts.append(("Deadline", f"in {format_duration(max(0.0, job.deadline_at - time.time()))}"))
    if job.error:
        said = (job.error.get(part) for part in ("brief", "details", "resolution"))
        facts.append(("Error", "\n".join([f"in {job.error.get('stage', '?')}", *filter(None, said)])))
    return facts


def _cancel(job: JobInfo) -> str:
    if not job.going_on:
        return "it has ended"
    return "possible" if job.cancellable else f"a {job.pipeline} cannot be cancelled"


def _step_cells(step: Step, job: JobInfo) -> tuple[object, ...]:
    since = None if step.began_at is None or job.began_at is None else step.began_at - job.began_at
    return (
        step.step,
        step.title,
        step.mark,
        step.attempts or "",
        step.queue,
        "" if since is None else f"{max(0.0, since):.3f}s",
        "" if step.ms is None else format_duration(step.ms / 1000),
        (step.error or {}).get("brief", ""),
    )
