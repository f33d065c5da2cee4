"""What a ticket must be before root looks any further."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from farm_facts import steps

from banger.contracts.errors import BangerError
from banger.contracts.tickets import _CONTEXT, TICKET_LIFE_S, TicketKey, open_ticket, public_half, seal
from banger.pipelines import CREATE

CALL = next(call for call in steps(CREATE) if call.stage == "tap")
NOW = 1_000_000.0
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TRUSTED = [TicketKey(public=public_half(KEY))]


def opened(ticket: object, *, keys: list[TicketKey] = TRUSTED, now: float = NOW) -> Any:
    return open_ticket(ticket, host="here", keys=keys, now=now)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def altered(change: Callable[[dict[str, Any]], Any]) -> str:
    """Return a ticket that the right key has signed, about something that no honest side would ask."""
    claims = json.loads(base64.b64decode(seal(CALL, KEY, NOW).split(".")[0]))
    change(claims)
    message = json.dumps(claims).encode()
    return f"{encoded(message)}.{encoded(KEY.sign(_CONTEXT + message))}"


def test_a_ticket_is_read_as_it_was_written() -> None:
    assert opened(seal(CALL, KEY, NOW), now=NOW + 1).call == CALL


@pytest.mark.parametrize(
    "ticket",
    [
        None,
        5,
        "",
        "%%%",
        "e30=",
        "e30=.e30=",
        "x" * 600_000,
        # Named, since the key is drawn anew in each process, and so would be the name of the test.
        pytest.param(f"{encoded(b'{}')}.{encoded(KEY.sign(_CONTEXT + b'{}'))}", id="empty"),
        f"{encoded(b'[' * 9999)}.{encoded(KEY.sign(_CONTEXT + b'[' * 9999))}",
        altered(lambda c: c.update(extra=1)),
        altered(lambda c: c.update(audience="there")),
        altered(lambda c: c["call"].update(host="there")),
        altered(lambda c: c.update(task="banger.root.launch")),
        altered(lambda c: c.update(task_id="another")),
        altered(lambda c: c.update(nonce="../../etc")),
        altered(lambda c: c.update(expires=NOW * 2, issued=NOW - TICKET_LIFE_S - 1)),
        altered(lambda c: c["call"].update(stage="overlay")),
        altered(lambda c: c["call"].update(stage="no-such")),
        altered(lambda c: c["call"].update(step="0; rm")),
        altered(lambda c: c["call"].update(request={})),
        altered(lambda c: c["call"]["request"].update(generation="many")),
    ],
)
def test_anything_else_is_refused(ticket: object) -> None:
    with pytest.raises(BangerError):
        opened(ticket)


def test_a_ticket_counts_only_with_this_hosts_signature_over_its_very_bytes() -> None:
    message, signature = seal(CALL, KEY, NOW).split(".")
    of_another = seal(CALL.model_copy(update={"job": "f" * 12}), KEY, NOW).split(".")
    for ticket in (
        seal(CALL, OTHER, NOW),
        message,
        f"{message}.",
        f"{of_another[0]}.{signature}",
        f"{message}.{of_another[1]}",
        f"{message}.{encoded(KEY.sign(base64.b64decode(message)))}",  # signed as something else than a ticket
    ):
        with pytest.raises(BangerError, match=r"signed by this host|two parts"):
            opened(ticket)


@pytest.mark.parametrize("now", [NOW - 3600, NOW + TICKET_LIFE_S + 1])
def test_a_ticket_has_its_time(now: float) -> None:
    with pytest.raises(BangerError, match="not valid at this time"):
        opened(seal(CALL, KEY, NOW), now=now)


def test_a_replaced_key_counts_until_its_end() -> None:
    keys = [TicketKey(public=public_half(KEY), until=NOW + 60), TicketKey(public=public_half(OTHER))]
    assert opened(seal(CALL, KEY, NOW), keys=keys).call == CALL
    assert opened(seal(CALL, OTHER, NOW), keys=keys).call == CALL
    with pytest.raises(BangerError, match="not signed"):
        opened(seal(CALL, KEY, NOW), keys=keys, now=NOW + 61)
