"""The sealed ticket in which a call reaches root: claims, and an Ed25519 signature over exactly those bytes.

The private key is one host's own and lies with its unprivileged worker; root holds the public ones. So
nobody who can merely write to the broker, nor another host, can ask this root anything.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Iterable
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError

from banger.contracts.calls import StageCall
from banger.contracts.errors import PolicyError
from banger.contracts.names import HostName
from banger.contracts.requests import Frozen
from banger.contracts.stages import Side

# The longest chain waits for a guest's command, a day, before its last steps are due.
TICKET_LIFE_S = 25 * 3600.0
MAX_TICKET_BYTES = 256 * 1024
_CLOCK_SKEW_S = 60
_CONTEXT = b"banger root ticket 1\n"  # a signature over anything else of ours is none over a ticket


class Claims(Frozen):
    """What a ticket says: one call, for one host, under one task id, for a bounded time (epoch seconds)."""

    audience: HostName
    task: str
    task_id: str
    call: StageCall
    issued: float
    expires: float
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class TicketKey(Frozen):
    """A public key (raw, base64) that root trusts; until then (epoch seconds) where it was replaced."""

    public: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
    until: float | None = None


def public_half(key: Ed25519PrivateKey) -> str:
    """Return the key's public half as ``TicketKey`` spells it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def seal(call: StageCall, key: Ed25519PrivateKey, now: float) -> str:
    """Return the ticket for a call: canonical claims and the signature over them, base64."""
    claims = Claims(
        audience=call.host,
        task=call.task_name,
        task_id=call.task_id,
        call=call,
        issued=now,
        expires=now + TICKET_LIFE_S,
        nonce=secrets.token_hex(16),
    )
    canonical = json.dumps(claims.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()
    return f"{_encode(canonical)}.{_encode(key.sign(_CONTEXT + canonical))}"


def open_ticket(ticket: object, *, host: str, keys: Iterable[TicketKey], now: float) -> Claims:
    """Return a ticket's claims after every check that it allows by itself; PolicyError otherwise.

    The signature comes first: of what a stranger wrote, nothing is parsed but base64.
    """
    if not isinstance(ticket, str) or len(ticket) > MAX_TICKET_BYTES:
        raise PolicyError("a root message carries exactly one ticket, of bounded size")
    claims = _claims(_signed(ticket, [key for key in keys if key.until is None or now < key.until]))
    if claims.audience != host or claims.call.host != host:
        raise PolicyError(f"the ticket is for host {claims.audience}, this is {host}")
    if not claims.issued - _CLOCK_SKEW_S <= now < min(claims.expires, claims.issued + TICKET_LIFE_S):
        raise PolicyError("the ticket is not valid at this time")
    call = claims.call
    if call.table_row.side is not Side.ROOT or (claims.task, claims.task_id) != (
        call.task_name,
        call.task_id,
    ):
        raise PolicyError("the ticket does not name the task that it is for")
    return claims


def _signed(ticket: str, keys: Iterable[TicketKey]) -> bytes:
    """Return the bytes that one of the keys has signed."""
    try:
        message, signature = map(_decode, ticket.split("."))
    except (binascii.Error, ValueError):
        raise PolicyError("the ticket is not two parts of base64") from None
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(_decode(key.public)).verify(signature, _CONTEXT + message)
        except InvalidSignature:
            continue
        return message
    raise PolicyError("the ticket was not signed by this host's worker")


def _claims(message: bytes) -> Claims:
    try:
        return Claims.model_validate_json(message)
    except ValidationError as error:
        raise PolicyError("the ticket's claims cannot be read", details=str(error)) from None


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
