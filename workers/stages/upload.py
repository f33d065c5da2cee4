"""Stage ``upload``: what the front packed for a batch is unpacked in the guest's working directory."""

from __future__ import annotations

from banger.contracts.requests import UploadRequest
from banger.guest_copy import send_stream
from banger.ssh import SESSION_DIAL_S, ssh_argv
from workers.host import BatchContext
from workers.uploads import open_upload

_DEADLINE_S = 600
_UNPACK = 'mkdir -p "$0" && exec tar -C "$0" -xf -'


def do(request: UploadRequest, ctx: BatchContext) -> None:
    """Unpack the upload; StageFailedError or NotFoundError where it is not there any more."""
    plan = ctx.batches.plan(request.batch)
    command = ("sh", "-c", _UNPACK, plan.workdir)
    argv = ssh_argv(ctx.host.paths, request.vm_id, request.address, command, dial_s=SESSION_DIAL_S)
    with open_upload(ctx.host, request.batch, request.home, ctx.fetcher) as archive:
        send_stream(argv, archive, _DEADLINE_S)
