"""The configuration of the embedded Redis: private, durable, and never forgetting by itself."""

from __future__ import annotations

from pathlib import Path

from banger.embedded.credentials import Credentials
from banger.redis_roles import acl_lines


def redis_config(*, directory: Path, socket: Path, port: int, acl: Path) -> str:
    """Return redis.conf: Unix socket, loopback port, users, AOF every second, no eviction, no snapshots.

    Records and queues live here, so a full memory must refuse writes, not drop keys; the append-only
    file alone is loaded at a start, so no second copy (RDB) can disagree with it.
    """
    return f"""\
daemonize no
bind 127.0.0.1
port {port}
protected-mode yes
unixsocket {socket}
unixsocketperm 770
aclfile {acl}
dir {directory}
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
maxmemory-policy noeviction
tcp-keepalive 60
loglevel notice
logfile ""
"""


def acl_file(credentials: Credentials) -> str:
    """Return the file of its users, which Redis reads at its start."""
    return "\n".join(acl_lines(credentials.host, credentials.redis_passwords)) + "\n"
