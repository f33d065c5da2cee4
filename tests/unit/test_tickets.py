"""What a ticket must be before root looks any further."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from farm_facts import steps

from banger.contracts.calls import TICKET_LIFE_S, read_ticket, write_ticket
from banger.contracts.errors import BangerError
from banger.pipelines import CREATE

CALL = next(call for call in steps(CREATE) if call.stage == "tap")
NOW = 1_000_000.0


def altered(change: Callable[[dict[str, Any]], Any]) -> str:
    claims = json.loads(base64.urlsafe_b64decode(write_ticket(CALL, NOW)))
    change(claims)
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()


def test_a_ticket_is_read_as_it_was_written() -> None:
    assert read_ticket(write_ticket(CALL, NOW), host="here", now=NOW + 1).call == CALL


@pytest.mark.parametrize(
    "ticket",
    [
        None,
        5,
        "",
        "%%%",
        "e30=",
        "x" * 600_000,
        altered(lambda c: c.update(extra=1)),
        altered(lambda c: c.update(version=2)),
        altered(lambda c: c.update(audience="there")),
        altered(lambda c: c["call"].update(host="there")),
        altered(lambda c: c.update(task="banger.root.launch")),
        altered(lambda c: c.update(task_id="another")),
        altered(lambda c: c["call"].update(stage="overlay")),
        altered(lambda c: c["call"].update(stage="no-such")),
        altered(lambda c: c["call"].update(step="0; rm")),
        altered(lambda c: c["call"].update(request={})),
        altered(lambda c: c["call"]["request"].update(generation="many")),
    ],
)
def test_anything_else_is_refused(ticket: object) -> None:
    with pytest.raises(BangerError):
        read_ticket(ticket, host="here", now=NOW)


@pytest.mark.parametrize("now", [NOW - 3600, NOW + TICKET_LIFE_S + 1])
def test_a_ticket_has_its_time(now: float) -> None:
    with pytest.raises(BangerError, match="not valid at this time"):
        read_ticket(write_ticket(CALL, NOW), host="here", now=now)
