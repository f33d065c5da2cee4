"""The configuration of the embedded Redis: private, durable, and never forgetting by itself."""

from __future__ import annotations

from pathlib import Path

from banger.embedded.credentials import Credentials
from banger.redis_roles import acl_rules

# The longest chain is a dozen tickets, of which each has a bound of its own (MAX_TICKET_BYTES).
MAX_MESSAGE_BYTES = 8 * 1024 * 1024


def redis_config(*, directory: Path, socket: Path, port: int, acl: Path) -> str:
    """Return redis.conf: Unix socket, loopback port, users, AOF every second, no eviction, no snapshots.

    Records and queues live here, so a full memory must refuse writes, not drop keys. No message is larger
    than a worker can hold. The append-only file alone is loaded at a start, so no second copy (RDB) can
    disagree with it.
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
proto-max-bulk-len {MAX_MESSAGE_BYTES}
tcp-keepalive 60
loglevel notice
logfile ""
"""


# Nobody can be it: it is off and has no password. Only Redis is, when it plays its AOF back at its start:
# without these rights it would leave out every transaction, and with them the records.
_DEFAULT_USER = "user default off resetpass ~* &* +@all\n"


def acl_file(credentials: Credentials) -> str:
    """Return the file of its users, which Redis reads at its start. Nobody is let in without a name."""
    rules = acl_rules(credentials.host, credentials.redis_passwords)
    return _DEFAULT_USER + "".join(f"user {user} {rights}\n" for user, rights in rules.items())
