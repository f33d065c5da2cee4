"""That root is there is said from the first moment, whatever Redis does meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from banger.contracts.audit import START, audit_key
from banger.contracts.journal import SERVING_TTL_S, serving_key
from banger.contracts.policy import Policy
from root_worker import inventory, runner
from root_worker.audit import Audit
from root_worker.door import Door
from root_worker.host import root_host
from root_worker.ledger import Ledger
from root_worker.runner import RootRunner

DEADLINE_S = 5.0


class LateRedis:
    """Not there the first time it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.served = threading.Event()
        self.said: tuple[Any, ...] = ()

    def hset(self, key: str, mapping: dict[str, Any]) -> None:
        self.head = (key, mapping)

    def eval(self, *_: Any) -> list[Any]:
        return []  # the seat is free

    def set(self, key: str, value: str, ex: int) -> None:
        self.asked += 1
        if self.asked == 1:
            raise ConnectionError("not yet")
        self.said = (key, value, ex)
        self.served.set()


def test_a_first_heartbeat_that_fails_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = LateRedis()
    monkeypatch.setattr(runner, "_HEARTBEAT_S", 0.01)
    monkeypatch.setattr(inventory, "LOOKS", {})
    policy = Policy(host="here", state_dir=tmp_path / "state", run_dir=tmp_path / "run")
    host = root_host(policy)
    host.paths.host_id.write_text("0123456789ab")
    door = Door(policy, tuple, Ledger(tmp_path / "tickets"), Audit(tmp_path / "audit"))
    root = RootRunner(host, door, lambda: redis)
    root.start()
    try:
        assert redis.served.wait(DEADLINE_S)
    finally:
        root.stop()
    assert redis.said == (serving_key("banger.root.here"), "1", SERVING_TTL_S)
    assert redis.head == (audit_key("here"), {"seq": 0, "hash": START, "refused": 0})
