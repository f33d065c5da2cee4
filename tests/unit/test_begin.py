"""What ``begin`` does about a job that is sent again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from farm_facts import JOB, NETWORK, VM, job, record

from banger.contracts.errors import UnavailableError
from banger.contracts.names import HostPaths
from banger.orders import Order
from banger.pipelines import RUN
from workers import begin
from workers.farmhand import Farmhand

PARAMS = {"argv": ["true"], "timeout_s": 1.0}
ORDER = Order.model_validate({"vm": VM, "job": JOB, "pipeline": RUN.name, "params": PARAMS})


@pytest.mark.parametrize(("steps", "made"), [({}, True), ({"01": "done", "02": "done", "15": "done"}, False)])
def test_a_directory_is_made_before_its_files_are_and_never_after(
    tmp_path: Path, steps: dict[str, str], *, made: bool
) -> None:
    paths = HostPaths(tmp_path, tmp_path / "run")
    paths.vms.mkdir()
    known = job(RUN, steps=steps, params=PARAMS, boot="this")
    sent: list[Any] = []
    named: list[Any] = []
    farmhand = SimpleNamespace(
        records=SimpleNamespace(begin=lambda *_: record(), job=lambda _: known),
        host=SimpleNamespace(paths=paths, network=NETWORK, uid_base=300_000, names=True),
        names=SimpleNamespace(follow=named.append),
        journal=SimpleNamespace(boot="this"),
        dispatch=sent.extend,
    )
    begin.run(cast("Farmhand", farmhand), ORDER)
    assert sent
    assert named == [record()]
    assert paths.vm(VM).exists() is made


def test_a_begin_whose_answer_was_lost_is_no_refusal() -> None:
    def away(*_: object) -> None:
        raise UnavailableError("Redis cannot be reached")

    farmhand = SimpleNamespace(records=SimpleNamespace(begin=away))  # which could not refuse anything
    with pytest.raises(UnavailableError):
        begin.run(cast("Farmhand", farmhand), ORDER)
