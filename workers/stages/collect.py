"""Stage ``collect``: artifacts and JUnit files are brought out of the guest, as tars that the guest wrote.

They lie on this host as they came, bounded in size: whoever unpacks one believes nothing of it. That
something is missing, or too large, is noted, and fails no job.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from banger.batch.files_left import attempt_directory
from banger.batch.globs import Globs
from banger.batch.scripts import MAX_LIST_BYTES, list_command, pack_command, pack_names, parse_list
from banger.batch.tested import Tested, read_tested
from banger.contracts.requests import CollectRequest
from banger.guest_copy import take_stream
from banger.shell import run
from banger.ssh import SESSION_DIAL_S, ssh_argv
from workers.host import BatchContext

MAX_ARTIFACTS_BYTES = 512 * 1024 * 1024
MAX_JUNIT_BYTES = 32 * 1024 * 1024
MAX_FILES = 10_000
KEPT_FREE_BYTES = 1 << 30  # of the disk that VMs live on too
_LIST_DEADLINE_S = 60
_DEADLINE_S = 280


def do(request: CollectRequest, ctx: BatchContext) -> dict[str, Any]:
    """Bring them out; return how many ``files`` of each kind, the ``tests`` in them, and ``notes``."""
    plan = ctx.batches.plan(request.batch)
    ssh = partial(ssh_argv, ctx.host.paths, request.vm_id, request.address, dial_s=SESSION_DIAL_S)
    listed = run(
        ssh(list_command(plan.workdir)), deadline_s=_LIST_DEADLINE_S, max_output=MAX_LIST_BYTES
    ).stdout
    names = parse_list(listed)
    directory = attempt_directory(ctx.host.paths, request.batch, request.index, request.attempt)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files: dict[str, int] = {}
    notes: list[str] = []
    for kind, patterns, limit in (
        ("junit", plan.junit, MAX_JUNIT_BYTES),
        ("artifacts", plan.artifacts, MAX_ARTIFACTS_BYTES),
    ):
        if patterns:
            wanted = Globs(patterns).select(names)
            files[kind] = len(wanted)
            take = partial(take_stream, ssh(pack_command(plan.workdir)), deadline_s=_DEADLINE_S)
            notes += _bring(kind, wanted, directory / f"{kind}.tar", limit, take)
    tested = read_tested(directory / "junit.tar") if files.get("junit") else Tested(None, {}, ())
    ctx.batches.remember_times(plan.name, tested.took_s)
    said = {"tests": tested.tests.model_dump(mode="json")} if tested.tests else {}
    return said | {"files": files, "notes": [*notes, *tested.notes]}


def _bring(
    kind: str, wanted: Sequence[str], tar: Path, limit: int, take: Callable[..., bool]
) -> Iterator[str]:
    """Write a tar of what is wanted, as far as there is room for it; yield what is to be said of it."""
    if not wanted:
        yield f"{kind}: no file of the guest matches"
        return
    if len(wanted) > MAX_FILES:
        yield f"{kind}: {len(wanted)} files match, and {MAX_FILES} were taken"
    room = max(0, shutil.disk_usage(tar.parent).free - KEPT_FREE_BYTES)
    with tar.open("wb") as file:
        if take(said=pack_names(wanted[:MAX_FILES]), into=file, max_bytes=min(limit, room)):
            return
    if room < limit:
        yield f"{kind}: this host's disk is nearly full; {room >> 20} MiB were taken"
    else:
        yield f"{kind}: more than {limit >> 20} MiB; what came first was taken"
