"""Stage ``patch_rootfs``: guest files, /etc/fstab and the SSH host key, into the ext4 of the system disk.

The disk is never mounted, and what reads or writes it has no privilege. There is no undo: the files go with
the overlay, and are replaced at every start.
"""

from __future__ import annotations

from pathlib import Path

from banger.contracts import fstab
from banger.contracts.errors import StageFailedError
from banger.contracts.ext4 import File, damaged, put, survey
from banger.contracts.registry import Entry
from banger.contracts.requests import PatchRootfsRequest
from root_worker.host import RootHost
from root_worker.ops import beneath, system_disk
from root_worker.ops.debugfs import replay_journal, sandboxed_debugfs
from root_worker.sink import admitted
from root_worker.vmm import processes

_FSTAB = "/etc/fstab"
_FSTAB_LIMIT = 64 * 1024
_KEY_LIMIT = 4096


@admitted
def do(request: PatchRootfsRequest, host: RootHost, entry: Entry) -> None:
    """Write the files and read them back. StageFailedError, and so no boot, unless all are as asked."""
    processes.require_none(host, entry)
    uid = host.policy.slot(request.slot).uid
    files = [File(file.path, file.content.encode(), file.mode) for file in request.files]
    files += _host_key(host, request.vm_id)
    with system_disk.opened(host, request.vm_id, uid) as disk:
        debugfs = sandboxed_debugfs(disk, uid, host.paths.vmm_root)
        paths = [_FSTAB, *(file.path for file in files)]
        before = survey(paths, _FSTAB, _FSTAB_LIMIT, debugfs)
        if before is None:  # not unmounted; after a clean stop there is nothing to replay
            replay_journal(disk, uid, host.paths.vmm_root)
            before = survey(paths, _FSTAB, _FSTAB_LIMIT, debugfs)
        if before is None:
            raise damaged("It cannot be read though its journal has been replayed.")
        # Bytes that are no text pass through unchanged: the file is the guest's own.
        current = (before.content or b"").decode(errors="surrogateescape")
        merged = fstab.merge(current, request.mounts).encode(errors="surrogateescape")
        put([], [*files, File(_FSTAB, merged)], before.inodes, debugfs)


def _host_key(host: RootHost, vm_id: str) -> list[File]:
    private = host.paths.host_key(vm_id)
    public = private.with_name(f"{private.name}.pub")
    return [
        File("/etc/ssh/ssh_host_ed25519_key", _read_small(host, private), 0o600),
        File("/etc/ssh/ssh_host_ed25519_key.pub", _read_small(host, public), 0o644),
    ]


def _read_small(host: RootHost, path: Path) -> bytes:
    with (
        beneath.regular_file(host.paths.state, path, {host.worker_uid}) as fd,
        open(fd, "rb", closefd=False) as file,
    ):
        content = file.read(_KEY_LIMIT + 1)
    if not 0 < len(content) <= _KEY_LIMIT:
        raise StageFailedError(f"{path} is no SSH host key: {len(content)} bytes or more")
    return content
