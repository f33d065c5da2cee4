"""How a batch and one of its jobs are named on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli.completion import batch_jobs, batch_refs
from banger.contracts.errors import NotFoundError

if TYPE_CHECKING:
    from banger.batch.state import BatchInfo, JobState
    from banger.batch.store import Batches

BatchRef = Annotated[
    str,
    typer.Argument(
        metavar="BATCH",
        help="The batch's id, or its name for the youngest of it, or `last`.",
        autocompletion=batch_refs,
    ),
]
BatchJob = Annotated[
    str,
    typer.Argument(metavar="JOB", help="The job's number, or its title.", autocompletion=batch_jobs),
]
SomeBatchJob = Annotated[
    str | None,
    typer.Argument(metavar="JOB", help="Only this job, by number or title.", autocompletion=batch_jobs),
]


def find_job(store: Batches, batch: BatchInfo, ref: str) -> JobState:
    """Return a job of a batch by its number, or by its title where it is the only one of that title."""
    if ref.isascii() and ref.isdigit() and len(ref) <= 9:
        return store.job(batch.id, int(ref))
    found = [job for job in store.jobs(batch.id) if job.title == ref]
    if len(found) == 1:
        return found[0]
    numbers = ", ".join(str(job.index) for job in found[:10])
    raise NotFoundError(
        f"batch {batch.id} has {'several jobs' if found else 'no job'} {ref!r}",
        details=f"they are {numbers}" if found else "",
        resolution=f"`banger batch status {batch.id}` shows their numbers.",
    )
