"""Following a job whose first message was lost."""

from __future__ import annotations

import pytest
from farm_facts import JOB, VM

from banger import submission
from banger.connection import FarmRedis
from banger.contracts.errors import CapacityError, UnavailableError
from banger.contracts.queues import CONTROL
from banger.pipelines import CREATE
from banger.records import Records
from banger.submission import Submission

pytestmark = pytest.mark.integration


def test_a_message_of_which_nothing_came_is_sent_again(
    redis_client: FarmRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(redis_client)
    records.publish_serving(CONTROL)
    monkeypatch.setattr(submission, "_SEND_AGAIN_S", 0.1)
    sent: list[str] = []

    def again() -> None:
        sent.append("again")
        records.refuse(VM, JOB, CREATE.name, CapacityError("no host can take this VM").to_wire())

    with pytest.raises(CapacityError):
        Submission(redis_client, VM, JOB, CREATE, "0", again).wait()
    assert sent == ["again"]


def test_a_queue_that_nobody_serves_is_named(
    redis_client: FarmRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "_SILENCE_S", 0.1)
    with pytest.raises(UnavailableError, match=r"nobody serves the queue banger\.control"):
        Submission(redis_client, VM, JOB, CREATE, "0").wait()
