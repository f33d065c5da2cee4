"""``banger batch debug``: a shell in the VM that a job has left, where the job was."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from banger.cli.batch.refs import BatchJob, BatchRef, find_job
from banger.cli.session import session_of
from banger.contracts.errors import BangerError, InvalidInputError, NotFoundError, WrongStateError
from banger.contracts.states import State

if TYPE_CHECKING:
    from banger.batch.plan import Plan
    from banger.batch.state import BatchInfo, JobState
    from banger.records import Record


def debug(ctx: typer.Context, batch: BatchRef, job: BatchJob) -> int:
    """Open a shell in a job's VM, where the job was.

    It begins in the job's directory, with its environment, secrets included.

    The VM of a job that has ended is there where the plan said `keep: on-failure` or `keep: always`, until
    its time is over; `banger vm delete` removes it sooner. A job that is at work can be looked into as well.

    \b
    Examples:
      banger batch debug last 3
      banger batch debug unit-tests "python=3.12 2/4"
      echo 'df -h; ls -l' | banger batch debug last 3
    """
    from banger.batch.scripts import debug_command
    from banger.shell import become
    from banger.ssh import SESSION_DIAL_S, ssh_argv

    farm = session_of(ctx).farm
    store = farm.batches.store
    info = store.find(batch)
    plan, state = store.plan(info.id), find_job(store, info, job)
    record = farm.records.get(state.vm) if state.vm else None
    if (refusal := why_not(info, plan, state, record)) is not None:
        raise refusal
    assert record is not None  # noqa: S101 - else it was refused
    farm.require_here(record)
    if state.state != "ended":
        typer.echo(f"banger: job {state.index} is still at work in this VM", err=True)
    command = debug_command(plan.workdir)
    # A terminal where we have one: without, commands may be piped in, and a shell on one would wait for ever.
    tty = sys.stdin.isatty()
    become(ssh_argv(farm.keys, record.id, str(record.address), command, tty=tty, dial_s=SESSION_DIAL_S))


def why_not(info: BatchInfo, plan: Plan, job: JobState, record: Record | None) -> BangerError | None:
    """Return why there is no VM of a job to look into, and what to do; None where there is one. Pure."""
    what = f"job {job.index} of batch {info.id}"
    again = f"`banger batch rerun {info.id} {job.index} --keep` runs it again, and keeps its VM."
    if job.state == "waiting":
        return WrongStateError(
            f"{what} has no VM: it waits to be run{' again' if job.attempts else ''}",
            details=info.why or "",
            resolution=f"`banger batch status {info.id}` shows how it stands.",
        )
    if job.state == "ended" and not job.vm_kept:
        return InvalidInputError(
            f"the VM of {what} was not kept",
            details=f"the job ended as {job.verdict}, and the plan says `keep: {plan.keep}`",
            resolution=f"{again}\nWith `keep: on-failure` in the plan, VMs of jobs that do not pass stay.",
        )
    if record is None:
        return NotFoundError(
            f"the VM of {what} is gone",
            details="it never came up, it was deleted, or its time is over (`keep_ttl` of the plan)",
            resolution=again,
        )
    if job.state == "ended" and record.state is not State.RUNNING:
        hint = f"`banger vm start {record.name}` starts it; or: " if record.state is State.STOPPED else ""
        return WrongStateError(
            f"the VM of {what} does not run: it is {record.state}",
            details=f"`banger vm logs {record.name}` shows its console, while it is there",
            resolution=f"{hint}{again}",
        )
    if record.address is None:
        return WrongStateError(f"the VM of {what} is not up yet", resolution="Try again in a moment.")
    return None
