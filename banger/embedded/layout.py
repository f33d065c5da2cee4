"""A farm's directories, with the owner and mode that each side needs, and the farm's SSH key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from banger import ticket_keys
from banger.contracts.names import new_id
from banger.contracts.policy import Policy
from banger.contracts.tickets import TicketKey
from banger.embedded.account import as_user, worker_account
from banger.embedded.credentials import Credentials
from banger.embedded.paths import farm_paths
from banger.embedded.redis import acl_file, redis_config
from banger.hosts import VCPUS_A_CORE
from banger.private_file import write_private
from banger.settings import Settings
from banger.shell import find_tool, run

KEYGEN_DEADLINE_S = 30


def prepare(settings: Settings, credentials: Credentials) -> None:
    """Make every directory and file that the services expect. May be repeated; changes only what differs."""
    account = worker_account(settings)
    for path, owner, mode in directories(settings):
        uid, gid = (account.pw_uid, account.pw_gid) if owner == settings.worker_user else (0, 0)
        # Redis' data is another user's where systemd ran the farm before.
        make_directory(path, uid, gid, mode, contents=path == farm_paths(settings).redis)
    paths = farm_paths(settings)
    write_private(paths.redis_acl, acl_file(credentials), gid=account.pw_gid, mode=0o640)
    write_private(
        paths.redis_config,
        redis_config(
            directory=paths.redis,
            socket=paths.redis_socket,
            port=credentials.redis_port,
            acl=paths.redis_acl,
        ),
        gid=account.pw_gid,
        mode=0o640,
    )
    write_policy(settings)
    ensure_host_id(settings)
    ensure_ssh_key(settings)


def directories(settings: Settings) -> tuple[tuple[Path, str, int], ...]:
    """Return path, owner and mode of each directory, outermost first."""
    host, farm, worker = settings.paths, farm_paths(settings), settings.worker_user
    return (
        (host.state, "root", 0o711),
        (host.images, "root", 0o755),
        (host.kernels, "root", 0o755),
        (host.vms, worker, 0o711),
        (host.batches, worker, 0o700),
        (host.keys, worker, 0o700),
        (host.verified, worker, 0o700),
        (host.names, worker, 0o755),
        (host.registry, "root", 0o700),
        (host.audit, "root", 0o700),
        (farm.redis, worker, 0o700),
        (farm.logs, "root", 0o755),
        (host.run, "root", 0o755),
        (host.jails, "root", 0o711),
        (host.vmm_root, "root", 0o755),
        (farm.control, "root", 0o755),
        (farm.staging, "root", 0o700),
        (farm.redis_socket.parent, worker, 0o750),
    )


def write_policy(settings: Settings) -> None:
    """Write root's policy, with a new pair of keys where the worker's is lost: root reads them at once."""
    account, file = worker_account(settings), farm_paths(settings).policy
    keys = ticket_keys.ensure(settings.paths, file, account.pw_uid, account.pw_gid)
    write_private(file, policy(settings, keys).model_dump_json(indent=2), mode=0o644)


def ensure_host_id(settings: Settings) -> None:
    """Give this machine an id of its own, once: by it two hosts of one name are told apart."""
    if not settings.paths.host_id.exists():
        write_private(settings.paths.host_id, f"{new_id()}\n", mode=0o644)


def policy(settings: Settings, keys: Sequence[TicketKey]) -> Policy:
    """Return root's limits on this host."""
    return Policy(
        host=settings.host,
        state_dir=settings.state_dir,
        run_dir=settings.run_dir,
        network=settings.network,
        uid_base=settings.uid_base,
        worker_user=settings.worker_user,
        accelerator=settings.accelerator,
        vmm=settings.vmm,
        firecracker=settings.firecracker,
        jailer=settings.jailer,
        serial_log_mib=settings.serial_log_mib,
        # More than this machine has is never right, whoever asks.
        max_host_memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        max_host_vcpus=(os.cpu_count() or 1) * VCPUS_A_CORE,
        ticket_keys=tuple(keys),
    )


def make_directory(path: Path, uid: int, gid: int, mode: int, *, contents: bool = False) -> None:
    """Make a directory in one of root's, or give one that is there this owner and mode.

    ``contents``: what in it was its former owner's changes hands with it.
    """
    path.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if contents and (former := os.fstat(fd).st_uid) not in (0, uid):
            _hand_over(fd, former, uid, gid)
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _hand_over(directory: int, former: int, uid: int, gid: int) -> None:
    for _, directories_in, files, within in os.fwalk(".", dir_fd=directory):
        for name in (*directories_in, *files):
            if os.stat(name, dir_fd=within, follow_symlinks=False).st_uid == former:
                os.chown(name, uid, gid, dir_fd=within, follow_symlinks=False)


def ensure_ssh_key(settings: Settings) -> None:
    """Make the key as the worker's user: root writes no file into a directory that others may change."""
    key = settings.paths.identity
    if key.exists():
        return
    keygen = (find_tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "banger")
    run(as_user(settings.worker_user, (*keygen, "-f", str(key))), deadline_s=KEYGEN_DEADLINE_S)
