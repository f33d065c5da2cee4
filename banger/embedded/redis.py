"""The configuration of the embedded Redis: private, durable, and never forgetting by itself."""

from __future__ import annotations

from pathlib import Path


def redis_config(*, directory: Path, socket: Path, port: int, password: str) -> str:
    """Return redis.conf: Unix socket, loopback port, password, AOF every second, no eviction, no snapshots.

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
requirepass {password}
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
