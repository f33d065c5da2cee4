"""``banger batch artifacts``: what jobs have left, brought here from the hosts where they ran."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from banger.cli import options
from banger.cli.batch.refs import BatchRef, SomeBatchJob, find_job
from banger.cli.columns import print_json
from banger.cli.failure import printable
from banger.cli.session import session_of
from banger.contracts.errors import InvalidInputError


def artifacts(
    ctx: typer.Context,
    batch: BatchRef,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The directory to put them below.")],
    job: SomeBatchJob = None,
    as_json: options.Json = False,
) -> int:
    """Bring artifacts here, each job's below DIR/job-NNN.

    Of jobs that have ended, from whatever hosts they ran on. What an earlier fetch left there is replaced. A
    guest's files are not believed: nothing lands outside, and links that lead out are left out and told of.
    What could not be fetched is told, and ends with 1.

    \b
    Examples:
      banger batch artifacts last --to out
      banger batch artifacts unit-tests 3 --to out
    """
    from banger.batch.ending import Ending
    from banger.batch.files import job_directory
    from banger.batch.outputs import Outputs

    batches = session_of(ctx).farm.batches
    info = batches.store.find(batch)
    patterns = batches.store.plan(info.id).artifacts
    if not patterns:
        raise InvalidInputError(
            f"the plan of batch {info.id} names no artifacts",
            resolution="Add their globs to it, as `artifacts: [logs/**]`, and run it again.",
        )
    jobs = batches.store.jobs(info.id) if job is None else [find_job(batches.store, info, job)]
    left = [one for one in jobs if one.state == "ended" and one.files.get("artifacts")]
    wanted = Outputs(artifacts=to)
    wanted.make_ready()
    with Ending(batches, info, wanted) as ending:
        for one in left:
            ending.take(one)
        problems, notes = ending.write(info, left)
    fetched = {one.index: to / job_directory(one.index, info.total) for one in left}
    there = {index: str(path) for index, path in fetched.items() if path.is_dir()}
    if as_json:
        print_json({"batch": info.id, "directories": there, "notes": notes, "problems": problems})
    else:
        for index, path in there.items():
            typer.echo(printable(f"job {index}: {path}"))
    for text in (*notes, *problems):
        typer.echo(printable(f"banger: {text}"), err=True)
    if not left:
        typer.echo(f"banger: no job that has ended left what matches {', '.join(patterns)}", err=True)
    return 1 if problems else 0
