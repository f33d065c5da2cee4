"""Ctrl-C at a terminal of `banger batch run` and `attach`, with a real farm: what is said and goes on."""

from __future__ import annotations

import pytest
from farm_box import eventually
from faulty_farm import Fault, FaultyFarm
from test_ctrl_c import INTERRUPTED, at_work, typed  # noqa: F401 - a fixture

pytestmark = pytest.mark.integration

RUN = ("batch", "run", "--name", "tests", "--count", "3", "--max-parallel", "1")


@pytest.fixture
def words(faulty: FaultyFarm) -> tuple[str, ...]:
    image = faulty.box.farm.hosts()[0].images[0].name
    return (*RUN, "--image", image, "--", "true")


def all_is_gone(faulty: FaultyFarm) -> bool:
    return not faulty.box.farm.list() and not faulty.box.traces()


def test_the_first_cancels_the_batch_and_waits_until_all_is_undone(
    faulty: FaultyFarm,
    typed,  # noqa: F811
    words: tuple[str, ...],
) -> None:
    faulty.expect(Fault("work_disk", "before", "hold"))
    command = typed(*words)
    at_work(faulty, "work_disk")
    command.press()
    command.says("cancelling; what is at work is being removed")
    faulty.mend()
    assert command.code() == INTERRUPTED
    assert "3 cancelled" in command.screen()
    assert "(it was interrupted)" in command.screen()
    eventually(lambda: all_is_gone(faulty))


def test_the_second_leaves_at_once_and_says_how_to_come_back(
    faulty: FaultyFarm,
    typed,  # noqa: F811
    words: tuple[str, ...],
) -> None:
    faulty.expect(Fault("work_disk", "before", "hold"), Fault("overlay", "before", "hold", "undo"))
    command = typed(*words)
    at_work(faulty, "work_disk")
    command.press()
    command.says("cancelling")
    faulty.expect(Fault("overlay", "before", "hold", "undo"))
    at_work(faulty, "undo overlay")
    command.press()
    assert command.code() == INTERRUPTED  # while the undo is still held
    (batch,) = faulty.box.farm.batches.store.active()
    assert "leaving; the workers go on removing what is at work" in command.screen()
    assert f"banger batch attach {batch.id}" in command.screen()
    faulty.mend()
    again = typed("batch", "attach", batch.id)
    assert again.code() == INTERRUPTED
    assert "3 cancelled" in again.screen()
    eventually(lambda: all_is_gone(faulty))


def test_what_one_is_attached_to_goes_on(
    faulty: FaultyFarm,
    typed,  # noqa: F811
    words: tuple[str, ...],
) -> None:
    farm = faulty.box.farm
    faulty.expect(Fault("work_disk", "before", "hold"))
    detached = typed(*words[:-2], "--detach", *words[-2:])
    assert detached.code() == 0
    (batch,) = farm.batches.store.active()
    assert detached.screen() == f"{batch.id}\n"
    at_work(faulty, "work_disk")
    command = typed("batch", "attach", "tests")
    command.says("work_disk")
    command.press()
    assert command.code() == INTERRUPTED
    assert f"leaving; the batch goes on: `banger batch attach {batch.id}`" in command.screen()
    assert farm.batches.store.find(batch.id).state == "running"
    farm.batches.cancel(batch.id)
    faulty.mend()
    eventually(lambda: all_is_gone(faulty))
