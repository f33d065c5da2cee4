"""``banger batch run``: one plan in many VMs, and one verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import options
from banger.cli.batch import flags as batch_flags
from banger.cli.batch import options as batch_options
from banger.cli.columns import columns, print_json
from banger.cli.group import words_after
from banger.cli.session import Session, session_of
from banger.contracts.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from banger.batch.expand import JobPlan
    from banger.batch.outputs import Outputs
    from banger.batch.plan import Plan


def run(
    ctx: typer.Context,
    plan: Annotated[
        Path | None, typer.Argument(metavar="PLAN", help="The plan's file; else flags say all.")
    ] = None,
    directory: batch_flags.Directory = None,
    name: batch_flags.Name = None,
    image: options.ImageOption = None,
    count: batch_flags.Count = None,
    shards: batch_flags.Shards = None,
    vcpus: options.Vcpus = None,
    memory: options.Memory = None,
    disk: options.Disk = None,
    system_disk: options.SystemDisk = None,
    nat: batch_flags.Nat = None,
    vmm: options.Vmm = None,
    disk_rate: options.DiskRate = None,
    disk_ops: options.DiskOps = None,
    net_rate: options.NetRate = None,
    env: batch_flags.Env = None,
    secret: batch_flags.Secret = None,
    upload: batch_flags.Upload = None,
    workdir: batch_flags.Workdir = None,
    setup: batch_flags.Setup = None,
    collect: batch_flags.Collect = None,
    collect_junit: batch_flags.CollectJunit = None,
    timeout: batch_flags.Timeout = None,
    batch_timeout: batch_flags.BatchTimeout = None,
    retries: batch_flags.Retries = None,
    keep: batch_flags.Keep = None,
    keep_ttl: batch_flags.KeepTtl = None,
    max_parallel: batch_flags.MaxParallel = None,
    fail_fast: batch_flags.FailFast = None,
    host: options.Host = None,
    junit: batch_options.Junit = None,
    summary: batch_options.Summary = None,
    artifacts: batch_options.Artifacts = None,
    logs: batch_options.Logs = None,
    follow: batch_options.Follow = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the jobs, and submit nothing.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the batch's id, and leave.")] = False,
    quiet: batch_options.Quiet = False,
    as_json: batch_options.Json = False,
) -> int:
    """Run a plan's jobs, each in a VM, and wait for the verdict.

    A plan is a file (`banger batch schema` says what may be in it), or flags and a command alone. Flags go
    before what the file says; variables, paths and globs are added to its own.

    Ctrl-C cancels the batch and waits until all is undone; a second one leaves that to the workers.

    \b
    Examples:
      banger batch run plan.yaml --junit out.xml --artifacts out/
      banger batch run --image micro --count 20 --max-parallel 4 -- sh -c 'test $BANGER_INDEX != 7'
      id=$(banger batch run plan.yaml --detach) && banger batch attach $id
    """
    session_of(ctx).failure_code = batch_options.OURS_FAILED
    asked, directory = _asked(ctx, plan, directory)
    if dry_run:
        return _print_jobs(session_of(ctx), asked, directory, as_json=as_json)
    outputs = batch_options.outputs(ctx)
    if detach:
        return _detach(
            session_of(ctx), asked, directory, wanted=any(outputs) or bool(follow), as_json=as_json
        )
    return _run(session_of(ctx), asked, directory, outputs, follow, quiet=quiet, as_json=as_json)


def _asked(ctx: typer.Context, file: Path | None, directory: Path | None) -> tuple[Plan, Path]:
    """Return the plan that file and flags come to, and the directory that its paths are relative to."""
    from banger.batch.flags import overridden, plan_from_flags
    from banger.batch.load import load_plan

    flags: dict[str, Any] = {flag: ctx.params[name] for flag, name in batch_flags.OPTIONS.items()}
    flags["argv"] = words_after(ctx) or None
    if file is None:
        return plan_from_flags(**flags), directory or Path.cwd()
    return overridden(load_plan(file), **flags), directory or file.parent


def _detach(session: Session, plan: Plan, directory: Path, *, wanted: bool, as_json: bool) -> int:
    if wanted:
        raise InvalidInputError(
            "--detach leaves before there is anything to show or to write",
            resolution="Give these options to `banger batch attach`.",
        )
    info = session.farm.batches.submit(plan, directory)
    if as_json:
        print_json({"batch": info.model_dump(mode="json")})
    else:
        typer.echo(info.id)
    return 0


def _run(
    session: Session,
    plan: Plan,
    directory: Path,
    outputs: Outputs,
    follow: str | None,
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    """Submit a plan and watch it; the first Ctrl-C cancels the batch, the second leaves."""
    from banger.batch.expand import expand
    from banger.batch.patience import patiently
    from banger.cli.batch.interrupt import Stopping
    from banger.cli.batch.seen import Seen
    from banger.cli.batch.watch import Shown, watch

    jobs = expand(plan)
    shown = Shown(quiet, as_json, None if follow is None else _index(jobs, follow))
    outputs.make_ready()
    batches = session.farm.batches
    stopping = Stopping(lambda batch: patiently(lambda: batches.cancel(batch, "it was interrupted")))
    with stopping.heeded():
        info = batches.submit(plan, directory)
        stopping.submitted(info.id)
        try:
            return watch(session.farm, Seen.new(info, jobs), outputs, shown, stopping)
        except KeyboardInterrupt:
            typer.echo(f"leaving; {stopping.going_on}: `banger batch attach {info.id}` shows it", err=True)
            raise


def _index(jobs: Sequence[JobPlan], ref: str) -> int:
    """Return the number of a job that is named by it, or by its title."""
    found = [job.index for job in jobs if ref in (str(job.index), job.title)]
    if not found:
        raise NotFoundError(
            f"the plan has no job {ref!r}", resolution="`banger batch run --dry-run` shows its jobs."
        )
    return found[0]


def _print_jobs(session: Session, plan: Plan, directory: Path, *, as_json: bool) -> int:
    """Print what would be run. Only test files that are to be split by past times need the farm."""
    from banger.batch.expand import expand, job_env, vm_of

    plan = session.farm.batches.with_shards(plan, directory) if plan.split else plan
    jobs = expand(plan)
    vms = [{"image": plan.image} | plan.vm.model_dump(exclude_none=True) | vm_of(plan, job) for job in jobs]
    if as_json:
        told = [
            job.model_dump(mode="json") | {"vm": vm, "env": job_env(plan, job)}
            for job, vm in zip(jobs, vms, strict=True)
        ]
        print_json({"plan": plan.model_dump(mode="json", exclude={"shard_files"}), "jobs": told})
        return 0
    rows = [
        (job.index, job.title, vm["image"], vm["vcpus"], _memory(vm), "yes" if vm["nat"] else "no")
        for job, vm in zip(jobs, vms, strict=True)
    ]
    files = [(len(job.files),) for job in jobs] if plan.split else [()] * len(jobs)
    heading = ("JOB", "WHAT", "IMAGE", "VCPUS", "MEMORY", "NAT", *(("FILES",) if plan.split else ()))
    typer.echo(columns(heading, [(*row, *more) for row, more in zip(rows, files, strict=True)]))
    return 0


def _memory(vm: Mapping[str, Any]) -> str:
    return f"{vm['memory_mib']}MiB" if "memory_mib" in vm else ""
