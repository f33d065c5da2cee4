"""The host's key pair for root's tickets: its private half is the worker's, its public half root's policy."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from banger.contracts.errors import InvalidInputError, UnavailableError
from banger.contracts.names import HostPaths
from banger.contracts.tickets import TICKET_LIFE_S, TicketKey, public_half
from banger.private_file import write_private

SYSTEM_POLICY = Path("/etc/banger/policy.json")
GRACE_S = TICKET_LIFE_S  # for that long, what the replaced key has sealed may be under way


def private_key(paths: HostPaths) -> Ed25519PrivateKey:
    """Return the key that seals this host's tickets; UnavailableError where it cannot be read."""
    try:
        return Ed25519PrivateKey.from_private_bytes(paths.ticket_key.read_bytes())
    except (OSError, ValueError) as error:
        raise UnavailableError(
            "the key that seals root's tickets cannot be read",
            details=f"{paths.ticket_key}: {error}",
            resolution="`sudo banger farm up` makes it, readable by the worker's user alone.",
        ) from error


def policy_file(paths: HostPaths) -> Path:
    """Return the policy that this host's root worker reads; UnavailableError where there is none yet."""
    for path in (paths.state / "policy.json", SYSTEM_POLICY):
        if path.exists():
            return path
    raise UnavailableError(
        "this host has no policy yet",
        details=f"neither {paths.state / 'policy.json'} nor {SYSTEM_POLICY} exists",
        resolution="`sudo banger farm up` or `sudo banger system install` writes it.",
    )


def trusted(policy: Path) -> tuple[TicketKey, ...]:
    """Return the keys that a policy file trusts; none where there is no such file yet."""
    try:
        content = json.loads(policy.read_bytes())
    except FileNotFoundError:
        return ()
    return tuple(TicketKey.model_validate(key) for key in content.get("ticket_keys", ()))


def ensure(paths: HostPaths, policy: Path, uid: int, gid: int) -> tuple[TicketKey, ...]:
    """Return the keys for a policy that is about to be written; a pair is made where none is trusted.

    ``uid`` and ``gid`` are the worker's, whose the private half becomes.
    """
    known = trusted(policy)
    with suppress(UnavailableError):
        public = public_half(private_key(paths))
        if any(key.public == public and key.until is None for key in known):
            return known
    pair = Ed25519PrivateKey.generate()
    write_private(paths.ticket_key, pair.private_bytes_raw(), uid=uid, gid=gid, mode=0o400)
    return superseded(known, public_half(pair), GRACE_S)


def rotate(paths: HostPaths, policy: Path, grace_s: float = GRACE_S) -> tuple[TicketKey, ...]:
    """Seal with another key from now on; root trusts the one before for ``grace_s`` seconds more.

    Root learns of it first, so that there is no moment at which a ticket is sealed that it would refuse.
    """
    if os.geteuid() != 0:
        raise InvalidInputError("only root can rotate root's keys", resolution="Run it with sudo.")
    worker = paths.ticket_key.stat()
    pair = Ed25519PrivateKey.generate()
    keys = superseded(trusted(policy), public_half(pair), grace_s)
    content = json.loads(policy.read_bytes()) | {"ticket_keys": [key.model_dump() for key in keys]}
    write_private(policy, json.dumps(content, indent=2), mode=0o644)
    write_private(
        paths.ticket_key, pair.private_bytes_raw(), uid=worker.st_uid, gid=worker.st_gid, mode=0o400
    )
    return keys


def superseded(known: Sequence[TicketKey], public: str, grace_s: float) -> tuple[TicketKey, ...]:
    """Return the keys to trust when a new one comes: each older one for the grace period at most."""
    now = time.time()
    until = [min(key.until or now + grace_s, now + grace_s) for key in known]
    older = (
        TicketKey(public=key.public, until=end) for key, end in zip(known, until, strict=True) if end > now
    )
    return (*older, TicketKey(public=public))
