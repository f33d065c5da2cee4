"""``banger batch attach``: look at a batch that runs, or at the verdict of one that has ended."""

from __future__ import annotations

import typer

from banger.cli.batch import options as batch_options
from banger.cli.batch.refs import BatchRef, find_job
from banger.cli.session import session_of


def attach(
    ctx: typer.Context,
    batch: BatchRef,
    junit: batch_options.Junit = None,
    summary: batch_options.Summary = None,
    artifacts: batch_options.Artifacts = None,
    logs: batch_options.Logs = None,
    follow: batch_options.Follow = None,
    quiet: batch_options.Quiet = False,
    as_json: batch_options.Json = False,
) -> int:
    """Show a batch to its end, and end as it does.

    It shows what `run` shows, with the same exit codes. One that
    has ended has its verdict told, and its files fetched, again. Ctrl-C leaves it running.

    \b
    Examples:
      banger batch attach 3fa94c27d1b6
      banger batch attach unit-tests --junit out.xml --artifacts out/
    """
    from banger.cli.batch.seen import Seen
    from banger.cli.batch.watch import Shown, look_on

    session = session_of(ctx)
    session.failure_code = batch_options.OURS_FAILED
    batches = session.farm.batches
    seen = Seen.now(batches, batches.store.find(batch).id)
    job = find_job(batches.store, seen.info, follow).index if follow else None
    outputs = batch_options.outputs(ctx)
    outputs.make_ready()
    return look_on(session, seen, outputs, Shown(quiet, as_json, job))
