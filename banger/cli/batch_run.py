"""``banger batch run``: one plan in many VMs, and one verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import batch_options, options
from banger.cli.batch_attach import OURS_FAILED
from banger.cli.columns import columns, print_json
from banger.cli.group import words_after
from banger.cli.session import Session, session_of
from banger.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from banger.batch.ending import Outputs
    from banger.batch.expand import JobPlan
    from banger.batch.plan import Plan
    from banger.cli.batch_watch import Shown

Words = list[str] | None

# What a plan's flags are called on the command line, where --artifacts and --junit are what we write.
_FLAGS = {
    "artifacts": "collect",
    "junit": "collect_junit",
} | {
    flag: flag
    for flag in (
        *("name", "image", "count", "shards", "vcpus", "memory", "disk", "system_disk", "nat", "env"),
        *("secrets", "upload", "workdir", "setup", "timeout", "batch_timeout", "retries", "keep"),
        *("keep_ttl", "max_parallel", "fail_fast", "host"),
    )
}


def run(
    ctx: typer.Context,
    plan: Annotated[
        Path | None, typer.Argument(metavar="PLAN", help="The plan's file; else flags say all.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The batch's name; else the image's.")
    ] = None,
    image: options.ImageOption = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", help="Copies of each combination.")
    ] = None,
    shards: Annotated[
        int | None, typer.Option("--shards", metavar="N", help="Parts of each combination.")
    ] = None,
    vcpus: options.Vcpus = None,
    memory: options.Memory = None,
    disk: options.Disk = None,
    system_disk: options.SystemDisk = None,
    nat: Annotated[
        bool | None, typer.Option("--nat/--no-nat", help="Let the guests reach the internet, or not.")
    ] = None,
    env: Annotated[
        Words, typer.Option("--env", "-e", metavar="K=V", help="A variable; may be repeated.")
    ] = None,
    secrets: Annotated[
        Words,
        typer.Option(
            "--secret", metavar="NAME=env:VAR", help="A secret, from VAR or from file:PATH; may be repeated."
        ),
    ] = None,
    upload: Annotated[
        Words, typer.Option("--upload", metavar="PATH", help="Copied into each guest; may be repeated.")
    ] = None,
    workdir: Annotated[
        str | None, typer.Option("--workdir", metavar="DIR", help="Where commands run (/root/work).")
    ] = None,
    setup: Annotated[
        Words, typer.Option("--setup", metavar="LINE", help="A shell line to run first; may be repeated.")
    ] = None,
    collect: Annotated[
        Words, typer.Option("--collect", metavar="GLOB", help="A job's artifacts; may be repeated.")
    ] = None,
    collect_junit: Annotated[
        Words, typer.Option("--collect-junit", metavar="GLOB", help="A job's JUnit files; may be repeated.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="How long a job's commands may take (1h).")
    ] = None,
    batch_timeout: Annotated[
        str | None, typer.Option("--batch-timeout", metavar="TIME", help="How long all may take (1d).")
    ] = None,
    retries: Annotated[
        str | None, typer.Option("--retries", metavar="infra=N,test=M", help="More attempts (infra=1).")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="WHEN", help="Keep the VM: never (default), on-failure, always."),
    ] = None,
    keep_ttl: Annotated[
        str | None, typer.Option("--keep-ttl", metavar="TIME", help="How long a kept VM stays (1h).")
    ] = None,
    max_parallel: Annotated[
        int | None, typer.Option("--max-parallel", metavar="N", help="Jobs at work at once, at most.")
    ] = None,
    fail_fast: Annotated[
        bool | None, typer.Option("--fail-fast/--no-fail-fast", help="Stop at the first job that fails.")
    ] = None,
    host: options.Host = None,
    junit: batch_options.Junit = None,
    summary: batch_options.Summary = None,
    artifacts: batch_options.Artifacts = None,
    logs: batch_options.Logs = None,
    follow: batch_options.Follow = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the jobs, and submit nothing.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the batch's id and leave; `attach` comes back.")
    ] = False,
    quiet: batch_options.Quiet = False,
    as_json: batch_options.Json = False,
) -> int:
    """Run a plan's jobs, each in a VM of its own, and wait for their verdict.

    A plan is a file (`banger batch schema` says what may be in it), or flags and a command alone. Flags go
    before what the file says; variables, paths and globs are added to its own.

    \b
    Exit codes:
      0    all jobs passed
      1    a job's command failed, or took too long
      2    the plan is refused, and nothing was begun
      3    no command failed, but the infrastructure did, or banger itself
      130  cancelled

    Ctrl-C cancels the batch and waits until all is undone; a second one leaves that to the workers.

    \b
    Examples:
      banger batch run plan.yaml --junit out.xml --artifacts out/
      banger batch run plan.yaml --dry-run
      banger batch run --image micro --count 20 --max-parallel 4 -- sh -c 'test $BANGER_INDEX != 7'
      id=$(banger batch run plan.yaml --detach) && banger batch attach $id
    """
    from banger.batch.ending import Outputs
    from banger.batch.expand import expand
    from banger.cli.batch_watch import Shown, find_job

    session = session_of(ctx)
    asked, directory = _asked(ctx, plan, words_after(ctx))
    asked = _sharded(asked, directory, session)
    jobs = expand(asked)
    outputs = Outputs(artifacts=artifacts, logs=logs, junit=junit, summary=summary)
    if dry_run:
        _print_jobs(asked, jobs, as_json=as_json)
        return 0
    if detach:
        if any(outputs) or follow:
            raise InvalidInputError(
                "--detach leaves before there is anything to show or to write",
                resolution="Give these options to `banger batch attach`.",
            )
        info = session.farm.batches.submit(asked, directory)
        if as_json:
            print_json({"batch": info.model_dump(mode="json")})
        else:
            typer.echo(info.id)
        return 0
    outputs.make_ready()
    job = find_job(jobs, follow) if follow else None
    return _to_end(session, asked, directory, outputs, Shown(quiet, as_json, job))


def _to_end(session: Session, plan: Plan, directory: Path, outputs: Outputs, shown: Shown) -> int:
    """Submit a plan and watch it; the first Ctrl-C cancels the batch, the second leaves."""
    from banger.batch.expand import expand
    from banger.batch.patience import patiently
    from banger.cli.batch_interrupt import Stopping
    from banger.cli.batch_watch import Seen, watch

    batches = session.farm.batches
    stopping = Stopping(lambda batch: patiently(lambda: batches.cancel(batch, "it was interrupted")))
    with stopping.heeded():
        info = batches.submit(plan, directory)
        session.failure_code = OURS_FAILED
        if not shown.quiet:
            typer.echo(f"batch {info.name} {info.id}: {info.total} jobs of image {info.image}", err=True)
        stopping.submitted(info.id)
        try:
            return watch(session.farm, Seen.new(info, expand(plan)), outputs, shown, stopping)
        except KeyboardInterrupt:
            typer.echo(f"leaving; {stopping.going_on}: `banger batch attach {info.id}` shows it", err=True)
            raise


def _asked(ctx: typer.Context, file: Path | None, argv: Sequence[str]) -> tuple[Plan, Path]:
    """Return the plan that file and flags come to, and the directory that its paths are relative to."""
    from banger.batch.flags import overridden, plan_from_flags
    from banger.batch.load import load_plan

    flags: dict[str, Any] = {flag: ctx.params[name] for flag, name in _FLAGS.items()}
    flags["argv"] = argv or None
    if file is None:
        return plan_from_flags(**flags), Path.cwd()
    return overridden(load_plan(file), **flags), file.parent


def _sharded(plan: Plan, directory: Path, session: Session) -> Plan:
    """Return the plan with the files of each shard, where it splits some."""
    if plan.split is None:
        return plan
    from banger.batch.shards import files_of, split, times_of_files

    files = files_of(plan.split.files, directory)
    times: Mapping[str, float] = {}
    if plan.split.by == "junit-times":
        times = times_of_files(session.farm.batches.store.times(plan.name), files)
    parts = split(files, times, plan.shards or 1)
    return type(plan).model_validate(plan.model_dump(exclude_unset=True) | {"shard_files": parts})


def _print_jobs(plan: Plan, jobs: Sequence[JobPlan], *, as_json: bool) -> None:
    """Print what would be run."""
    from banger.batch.expand import job_env, vm_of

    vms = [{"image": plan.image} | plan.vm.model_dump(exclude_none=True) | vm_of(plan, job) for job in jobs]
    if as_json:
        told = [
            job.model_dump(mode="json") | {"vm": vm, "env": job_env(plan, job)}
            for job, vm in zip(jobs, vms, strict=True)
        ]
        print_json({"plan": plan.model_dump(mode="json", exclude={"shard_files"}), "jobs": told})
        return
    rows = [
        (job.index, job.title, vm["image"], vm["vcpus"], _memory(vm), len(job.files) or "")
        for job, vm in zip(jobs, vms, strict=True)
    ]
    typer.echo(columns(("JOB", "WHAT", "IMAGE", "VCPUS", "MEMORY", "FILES"), rows))


def _memory(vm: Mapping[str, Any]) -> str:
    return f"{vm['memory_mib']}MiB" if "memory_mib" in vm else ""
