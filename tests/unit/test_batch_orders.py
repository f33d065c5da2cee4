"""What may be ordered of batches by anybody who has the CLI's password, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from batch_facts import BATCH, plan
from farm_facts import JOB, VM, spec
from pydantic import TypeAdapter, ValidationError

from banger.batch.files_left import PIECE_BYTES, Piece
from banger.batch.orders import BatchOrder, CancelBatch, Fetch, ForgetBatch, RetryBatch, SubmitBatch
from banger.batch.plan import MAX_JOBS
from banger.orders import NewVm, Order

understand = TypeAdapter[Any](BatchOrder).validate_python
SUBMIT = {"do": "submit", "batch": BATCH, "plan": plan().model_dump(mode="json"), "home": "here"}
FETCH = {"answer": JOB, "batch": BATCH, "file": "output.log"}


@pytest.mark.parametrize(
    "order",
    [
        SubmitBatch(batch=BATCH, plan=plan(secrets={"TOKEN": {"env": "TOKEN"}}), home="here"),
        CancelBatch(batch=BATCH, reason="no more"),
        RetryBatch(batch=BATCH, attempts={0: 1, 1: 0, 9: 3}),
        ForgetBatch(batch=BATCH),
    ],
)
def test_an_order_is_understood_as_it_was_meant(order: Any) -> None:
    assert understand(order.model_dump(mode="json")) == order


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"do": "submit"},
        {"do": "shell", "batch": BATCH},
        SUBMIT | {"batch": "../../etc"},
        SUBMIT | {"batch": BATCH.upper()},
        SUBMIT | {"home": "a/b"},
        SUBMIT | {"home": "banger.root.here"},
        SUBMIT | {"secrets": {"TOKEN": "value"}},
        SUBMIT | {"plan": SUBMIT["plan"] | {"run": []}},  # type: ignore[operator]
        SUBMIT | {"plan": SUBMIT["plan"] | {"upload": ["../x"]}},  # type: ignore[operator]
        SUBMIT | {"plan": SUBMIT["plan"] | {"workdir": "/etc"}},  # type: ignore[operator]
        SUBMIT | {"plan": SUBMIT["plan"] | {"timeout_s": 1e9}},  # type: ignore[operator]
        {"do": "cancel", "batch": BATCH, "reason": "x" * 201},
        {"do": "retry", "batch": BATCH, "attempts": [0]},
        {"do": "retry", "batch": BATCH, "attempts": {"-1": 1}},
        {"do": "retry", "batch": BATCH, "attempts": {MAX_JOBS: 1}},
        {"do": "retry", "batch": BATCH, "attempts": {"../1": 1}},
        {"do": "forget", "batch": "*"},
        {"do": "forget", "batch": BATCH, "also": "all"},
    ],
)
def test_what_is_not_well_formed_is_refused(order: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        understand(order)


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "/etc/passwd"},
        {"file": "../../vms"},
        {"file": ""},
        {"batch": "../.."},
        {"batch": ".."},
        {"index": -1},
        {"index": "../0"},
        {"attempt": 0},
        {"attempt": "1/../.."},
        {"offset": -1},
        {"offset": 1 << 63},
        {"index": MAX_JOBS},
        {"answer": "banger:vm:x"},
        {"host": "there"},
    ],
)
def test_a_piece_is_asked_of_files_that_are_known_and_nothing_else(changes: dict[str, Any]) -> None:
    assert Fetch.model_validate(FETCH)
    with pytest.raises(ValidationError):
        Fetch.model_validate(FETCH | changes)


def test_a_piece_is_bounded_and_survives_the_way_byte_for_byte() -> None:
    piece = Piece(size=10, data=bytes(range(256)))
    assert Piece.model_validate_json(piece.model_dump_json()) == piece
    with pytest.raises(ValidationError):
        Piece(size=1, data=bytes(PIECE_BYTES + 1))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"timeout_s": 10},
        {"batch": {"batch": BATCH, "index": 0, "attempt": 1, "home": "here"}},
        {"timeout_s": 10, "batch": {"batch": "..", "index": 0, "attempt": 1, "home": "here"}},
        {"timeout_s": 10, "batch": {"batch": BATCH, "index": 0, "attempt": 0, "home": "here"}},
        {"timeout_s": 10, "batch": {"batch": BATCH, "index": 0, "attempt": 1, "home": "../x"}},
        {"timeout_s": 10, "batch": {"batch": BATCH, "index": 0, "attempt": 1, "home": "here", "x": 1}},
    ],
)
def test_a_batchs_job_says_which_it_is(params: dict[str, Any]) -> None:
    said = {"vm": VM, "job": JOB, "pipeline": "batch"}
    with pytest.raises(ValidationError):
        Order.model_validate(said | {"params": params})
    with pytest.raises(ValidationError):
        NewVm.model_validate(said | {"params": params, "spec": spec().model_dump(mode="json")})
