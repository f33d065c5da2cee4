"""The front's side of batches: what it leaves for the worker, and what it takes back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from played_batches import batch_session, batches_of, plan

TOKEN = {"secrets": {"TOKEN": {"env": "TOKEN"}}}


def test_who_leaves_while_a_batch_is_submitted_leaves_no_batch(tmp_path: Path) -> None:
    made = batch_session(tmp_path)
    spool = made.settings.paths.spool
    spool.mkdir(parents=True)
    (tmp_path / "sources").touch()
    left: list[str] = []

    def interrupted(order: Mapping[str, Any]) -> None:
        left.extend(path.suffix for path in spool.iterdir())
        if order["do"] == "submit":
            raise KeyboardInterrupt

    batches = batches_of(made)
    batches.obeyed = interrupted
    with pytest.raises(KeyboardInterrupt):
        batches.submit(plan(upload=["sources"], **TOKEN), tmp_path, {"TOKEN": "open sesame"})
    assert sorted(left) == [".secrets", ".upload"]
    assert [*spool.iterdir()] == []
    submitted, cancelled = batches.orders  # the first may reach a worker, and nothing is there for it
    assert (cancelled["do"], cancelled["batch"]) == ("cancel", submitted["batch"])
