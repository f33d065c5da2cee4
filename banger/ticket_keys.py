"""The host's key pair for root's tickets: its private half is the worker's, its public half root's policy."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from banger.advice import MEND
from banger.complaints import complaints
from banger.contracts.errors import InvalidInputError, NotFoundError, UnavailableError
from banger.contracts.names import HostPaths
from banger.contracts.policy import Policy
from banger.contracts.tickets import TICKET_LIFE_S, TicketKey, public_half
from banger.private_file import write_private
from banger.privilege import require_root

GRACE_S = TICKET_LIFE_S  # for that long, what the replaced key has sealed may be under way


def private_key(paths: HostPaths) -> Ed25519PrivateKey:
    """Return the key that seals this host's tickets; UnavailableError where it cannot be read."""
    try:
        return Ed25519PrivateKey.from_private_bytes(paths.ticket_key.read_bytes())
    except (OSError, ValueError) as error:
        raise UnavailableError(
            "the key that seals root's tickets cannot be read",
            details=f"{paths.ticket_key}: {error}",
            resolution=MEND,
        ) from error


def read_policy(file: Path) -> Policy:
    """Return root's policy; NotFoundError where there is none, InvalidInputError where it is damaged."""
    try:
        return Policy.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(
            "this host has no policy yet",
            details=f"{file} does not exist",
            resolution="`sudo banger farm up` or `sudo banger system install` writes it.",
        ) from None
    except ValidationError as error:
        raise InvalidInputError(
            "root's policy is damaged",
            details="\n".join([str(file), *complaints(error)]),
            resolution=MEND,
        ) from None


def kept(policy: Path) -> tuple[TicketKey, ...]:
    """Return the keys to keep when a policy is written anew: none where the file has none to read."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        return tuple(TicketKey.model_validate(key) for key in json.loads(policy.read_bytes())["ticket_keys"])
    return ()


def ensure(paths: HostPaths, policy: Path, uid: int, gid: int) -> tuple[TicketKey, ...]:
    """Return the keys for a policy that is about to be written; a pair is made where none is trusted.

    ``uid`` and ``gid`` are the worker's, whose the private half becomes.
    """
    known = kept(policy)
    with suppress(UnavailableError):
        public = public_half(private_key(paths))
        if any(key.public == public and key.until is None for key in known):
            return known
    pair = Ed25519PrivateKey.generate()
    write_private(paths.ticket_key, pair.private_bytes_raw(), uid=uid, gid=gid, mode=0o400)
    return superseded(known, public_half(pair), GRACE_S)


def rotate(
    paths: HostPaths, policy: Path, uid: int, gid: int, grace_s: float = GRACE_S
) -> tuple[TicketKey, ...]:
    """Seal with another key from now on; root trusts the one before for ``grace_s`` seconds more.

    Root learns of it first, so that there is no moment at which a ticket is sealed that it would refuse.
    ``uid`` and ``gid`` are the worker's.
    """
    require_root("rotate root's keys")
    pair = Ed25519PrivateKey.generate()
    before = read_policy(policy)
    keys = superseded(before.ticket_keys, public_half(pair), grace_s)
    after = before.model_copy(update={"ticket_keys": keys})
    write_private(policy, after.model_dump_json(indent=2), mode=0o644)
    write_private(paths.ticket_key, pair.private_bytes_raw(), uid=uid, gid=gid, mode=0o400)
    return keys


def require_pair(paths: HostPaths, policy: Path, uid: int) -> None:
    """Raise a BangerError unless root can read its policy and trusts what the worker (``uid``) seals with."""
    public = public_half(private_key(paths))
    if paths.ticket_key.stat().st_uid != uid:
        raise UnavailableError("the key that seals root's tickets is not the worker's", resolution=MEND)
    if not any(key.public == public and key.until is None for key in read_policy(policy).ticket_keys):
        raise UnavailableError("root does not trust the key that seals its tickets", resolution=MEND)
    found = policy.stat()
    if found.st_uid != 0 or found.st_mode & 0o022:
        raise UnavailableError(f"{policy} is not root's alone to write", resolution=MEND)


def superseded(known: Sequence[TicketKey], public: str, grace_s: float) -> tuple[TicketKey, ...]:
    """Return the keys to trust when a new one comes: each older one for the grace period at most."""
    now = time.time()
    until = [min(key.until or now + grace_s, now + grace_s) for key in known]
    older = (
        TicketKey(public=key.public, until=end) for key, end in zip(known, until, strict=True) if end > now
    )
    return (*older, TicketKey(public=public))
