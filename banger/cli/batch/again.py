"""Run jobs of a batch again: ``retry`` those that did not pass, ``rerun`` one, whatever became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli.batch import options as batch_options
from banger.cli.batch.refs import BatchJob, BatchRef, find_job
from banger.cli.columns import print_json
from banger.cli.session import session_of
from banger.contracts.errors import ConflictError

if TYPE_CHECKING:
    from banger.batch.state import BatchInfo
    from banger.cli.batch.watch import Shown
    from banger.cli.session import Session

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Do not show the batch to its end.")]


def retry(
    ctx: typer.Context,
    batch: BatchRef,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only those whose command failed or took too long.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep their VMs, whatever the plan says.")] = False,
    detach: Detach = False,
    quiet: batch_options.Quiet = False,
    as_json: batch_options.Json = False,
) -> int:
    """Run all jobs of a batch again that did not pass.

    Those that failed, timed out, were cancelled, or were failed by the infrastructure.

    The batch goes on with them, with the same image and what was uploaded, and ends with a verdict of all its
    jobs. Secrets are read anew, where this is typed.

    \b
    Examples:
      banger batch retry last
      banger batch retry unit-tests --failed --detach
    """
    from banger.batch.state import Verdict
    from banger.batch.verdict import headline
    from banger.cli.batch.watch import Shown

    session = session_of(ctx)
    session.failure_code = batch_options.OURS_FAILED
    store = session.farm.batches.store
    info = store.find(batch)
    wanted = {Verdict.FAILED, Verdict.TIMED_OUT} if failed else {*Verdict} - {Verdict.PASSED}
    indexes = [job.index for job in store.jobs(info.id) if job.verdict in wanted]
    if not indexes:
        raise ConflictError(
            f"batch {info.id} has no job to run again",
            details=f"{headline(info)}; it is {info.state}",
            resolution=f"`banger batch rerun {info.id} JOB` runs any job again.",
        )
    return _again(session, info, indexes, Shown(quiet, as_json), keep=keep, detach=detach)


def rerun(
    ctx: typer.Context,
    batch: BatchRef,
    job: BatchJob,
    keep: Annotated[bool, typer.Option("--keep", help="Keep its VM, for `banger batch debug`.")] = False,
    detach: Detach = False,
    quiet: batch_options.Quiet = False,
    as_json: batch_options.Json = False,
) -> int:
    """Run a job of a batch again, alone, even if it passed.

    What it prints is shown as it comes. The batch goes on with it, and ends with a verdict of all its jobs.
    A VM that an earlier attempt has left is deleted.

    \b
    Examples:
      banger batch rerun last 3
      banger batch rerun unit-tests 3 --keep
      banger batch debug unit-tests 3
    """
    from banger.cli.batch.watch import Shown

    session = session_of(ctx)
    session.failure_code = batch_options.OURS_FAILED
    store = session.farm.batches.store
    info = store.find(batch)
    index = find_job(store, info, job).index
    shown = Shown(quiet, as_json, None if quiet else index)
    return _again(session, info, [index], shown, keep=keep, detach=detach)


def _again(
    session: Session, info: BatchInfo, indexes: list[int], shown: Shown, *, keep: bool, detach: bool
) -> int:
    """Order it, and show the batch to its end; Ctrl-C leaves it running."""
    from banger.batch.outputs import Outputs
    from banger.cli.batch.seen import Seen
    from banger.cli.batch.watch import look_on

    batches = session.farm.batches
    batches.retry(info.id, indexes, keep=keep)
    jobs = f"job {indexes[0]} runs" if len(indexes) == 1 else f"{len(indexes)} jobs run"
    if detach and shown.as_json:
        print_json({"batch": batches.store.find(info.id).model_dump(mode="json"), "jobs": indexes})
    else:
        typer.echo(f"{info.id}: {jobs} again", err=not detach)
    if detach:
        return 0
    return look_on(session, Seen.now(batches, info.id), Outputs(), shown)
