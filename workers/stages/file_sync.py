"""Stage ``file_sync``: the files that the owner has left for this start go into the guest's /root.

A guest that runs may have written to its disk, and no such disk is opened from outside: they go over SSH. The
guest unpacks them beside their places, on the same disk, and each takes its name by a rename.
"""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from banger.contracts.errors import StageFailedError
from banger.contracts.file_sync import MAX_WIRE_BYTES, STAGING, Bundle
from banger.contracts.requests import FileSyncRequest
from banger.shell import run
from banger.ssh import SESSION_DIAL_S, ssh_argv
from workers.host import StageContext
from workers.spool import open_left

_DEADLINE_S = 120

# ``names`` has the N-th file's path in its N-th line: dropbear takes no command of more than 9,000 bytes. No
# file takes its name before all have arrived.
_UNPACK = f"""
set -e
umask 077
new={STAGING}
rm -rf $new
mkdir $new
trap 'rm -rf '$new EXIT
tar -C $new -xf -
while IFS= read -r path; do
  if [ -d "$path" ]; then echo "$path is a directory of the guest" >&2; exit 1; fi
  mkdir -p "${{path%/*}}"
done < $new/names
n=0
while IFS= read -r path; do
  mv -f $new/$n "$path"
  n=$((n + 1))
done < $new/names
"""


def do(request: FileSyncRequest, ctx: StageContext) -> dict[str, Any]:
    """Copy the bundle and return ``{"files": N}``. StageFailedError, with no half file made, otherwise."""
    bundle = _read(ctx.host.paths.bundle(request.bundle))
    command = ("sh", "-c", _UNPACK)
    done = run(
        ssh_argv(ctx.host.paths, request.vm_id, request.address, command, dial_s=SESSION_DIAL_S),
        deadline_s=_DEADLINE_S,
        good=range(256),
        stdin=_archive(bundle),
    )
    if done.code != 0:
        raise StageFailedError(
            "the files of file_sync could not be copied into the guest",
            details=done.stderr.decode(errors="replace").strip()[-2000:],
            resolution="Its work disk may be full, or a directory be where a file shall go.",
        )
    return {"files": len(bundle.files)}


def _read(path: Path) -> Bundle:
    """Return what was left; whoever left it may have put anything there, and none of it is repeated."""
    with open_left(path) as file:
        wire = file.read(MAX_WIRE_BYTES + 1)
    try:
        if len(wire) <= MAX_WIRE_BYTES:
            return Bundle.model_validate_json(wire)
    except ValidationError:
        pass
    raise StageFailedError("the files of file_sync do not keep to its rules") from None


def _archive(bundle: Bundle) -> bytes:
    names = "".join(f"{file.path}\n" for file in bundle.files).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, "names", names, 0o600)
        for number, file in enumerate(bundle.files):
            _add(tar, str(number), file.content, file.mode)
    return archive.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.size, member.mtime = mode, len(content), int(time.time())
    tar.addfile(member, io.BytesIO(content))
