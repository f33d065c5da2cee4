"""Stage ``work``: the plan's commands in the guest, in turn; what they print goes to the job's log.

Environment and secrets reach the guest on ssh's stdin, and are in no message, record, log or process list.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from banger.batch.expand import expand, job_env
from banger.batch.files_left import attempt_directory, secrets_left
from banger.batch.joblog import JobLog
from banger.batch.plan import Plan
from banger.batch.scripts import AT_FILE, RECEIVE_JOB, job_script
from banger.contracts.errors import BangerError, StageFailedError
from banger.contracts.requests import WorkRequest
from banger.shell import run
from banger.ssh import SESSION_DIAL_S, ssh_argv
from workers.guest_commands import run_in_guest
from workers.host import BatchContext
from workers.spool import open_left

MAX_LOG_BYTES = 64 * 1024 * 1024
_MAX_SECRETS_BYTES = 8 * 1024 * 1024
_ASK_DEADLINE_S = 20


def do(request: WorkRequest, ctx: BatchContext) -> dict[str, Any]:
    """Run the commands; return ``exit_code``, or ``timed_out``, and ``at``: the one that did not pass.

    Whatever the exit code is: a red test is no failure of ours. Errors are those of ``run_in_guest``, and
    StageFailedError where the plan's secrets are not there.
    """
    plan = ctx.batches.plan(request.batch)
    secrets = _secrets(plan, request.batch, ctx)
    env = job_env(plan, expand(plan)[request.index]) | secrets
    script = job_script(plan.workdir, env, plan.setup, plan.run)
    directory = attempt_directory(ctx.host.paths, request.batch, request.index, request.attempt)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with JobLog(directory / "output.log", [*secrets.values()], MAX_LOG_BYTES) as job_log:
        try:
            code = run_in_guest(
                ctx,
                request.vm_id,
                request.address,
                RECEIVE_JOB,
                timeout_s=request.timeout_s,
                emit=job_log.emit,
                stdin=script.encode(errors="surrogateescape"),
            )
        except BangerError as error:
            job_log.note(error.brief)
            raise
        if code is None:
            job_log.note(f"it did not end within {request.timeout_s:g} s and was cut off")
    if code == 0:
        return {"exit_code": 0}
    at = _where(request, ctx)
    return {"timed_out": True, "at": at} if code is None else {"exit_code": code, "at": at}


def _secrets(plan: Plan, batch: str, ctx: BatchContext) -> dict[str, str]:
    if not plan.secrets:
        return {}
    with open_left(secrets_left(ctx.host.paths, batch)) as file:
        text = file.read(_MAX_SECRETS_BYTES)
    with suppress(ValueError, TypeError, KeyError):
        left = json.loads(text)
        return {name: str(left[name]) for name in plan.secrets}
    raise StageFailedError("what was left for this job are not the secrets of its plan")


def _where(request: WorkRequest, ctx: BatchContext) -> str:
    """Return which command it was at, as the guest says; nothing where it does not."""
    argv = ssh_argv(ctx.host.paths, request.vm_id, request.address, ("cat", AT_FILE), dial_s=SESSION_DIAL_S)
    with suppress(BangerError):
        said = run(argv, deadline_s=_ASK_DEADLINE_S, max_output=500).stdout.decode(errors="replace")
        return "".join(letter for letter in said if letter.isprintable())
    return ""
