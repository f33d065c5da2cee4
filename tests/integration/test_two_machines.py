"""Two machines that call themselves one host: the second serves nobody, and takes nothing for lost."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_box import Box, eventually, farm_box, without_flower
from netns import inside

from banger.connection import FarmRedis
from banger.contracts import boot, seat
from banger.contracts.errors import ConflictError
from banger.contracts.journal import leases_key
from banger.contracts.names import HostPaths, new_id
from banger.contracts.queues import CONTROL, work_queue
from banger.contracts.seat import Machine, Seat, seat_key
from banger.contracts.states import State
from banger.doctor.checks import examine
from banger.doctor.gathering import gather
from banger.embedded import control
from banger.embedded.paths import farm_paths
from banger.settings import Settings

pytestmark = pytest.mark.integration

HOST = "twin"
SILENCE_S = 0.2


# --- the seat ------------------------------------------------------------------------------------


class Asking:
    """Machines that ask for one seat; each is its state directory, so a copy of it is another place."""

    def __init__(self, redis: FarmRedis, root: Path) -> None:
        self.redis = redis
        self._root = root

    def machine(self, name: str, host_id: str) -> Seat:
        paths = HostPaths(self._root / name, self._root / name)
        paths.state.mkdir()
        paths.host_id.write_text(host_id)
        return Seat(lambda: self.redis, HOST, paths)

    def lease(self) -> None:
        self.redis.hset(leases_key(HOST), new_id(), "2:64:1")


@pytest.fixture
def asking(redis_client: FarmRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asking:
    monkeypatch.setattr(seat, "SERVING_TTL_S", SILENCE_S)
    return Asking(redis_client, tmp_path)


def refused_while_heard(first: Seat, second: Seat, brief: str) -> ConflictError:
    """Let the first keep its seat, and the second ask for it again and again; return the last refusal."""
    first.take()
    until = time.monotonic() + 3 * SILENCE_S
    while time.monotonic() < until:
        first.take()
        with pytest.raises(ConflictError, match=brief) as refused:
            second.take()
    return refused.value


def test_a_seat_is_kept_from_a_second_machine_as_long_as_its_holder_is_heard(asking: Asking) -> None:
    first, second = asking.machine("first", "a" * 12), asking.machine("second", "b" * 12)
    refused = refused_while_heard(first, second, "another machine serves the host twin")
    assert "it is aaaaaaaaaaaa, this one is bbbbbbbbbbbb" in refused.details
    assert "BANGER_HOST" in refused.resolution


def test_a_copy_of_a_machine_is_refused_like_any_other(asking: Asking) -> None:
    first, copy = asking.machine("first", "a" * 12), asking.machine("copy", "a" * 12)
    refused = refused_while_heard(first, copy, "twin is served under this machine's own id")
    assert "or by a copy of it" in refused.details


def test_a_silent_holder_without_vms_gives_way_and_finds_out(asking: Asking) -> None:
    first, second = asking.machine("first", "a" * 12), asking.machine("second", "b" * 12)
    first.take()
    second.wait(threading.Event())
    with pytest.raises(ConflictError):
        first.take()


def test_silence_before_the_first_ask_does_not_count(asking: Asking) -> None:
    first, second = asking.machine("first", "a" * 12), asking.machine("second", "b" * 12)
    first.take()
    time.sleep(2 * SILENCE_S)  # as long as Redis was away
    with pytest.raises(ConflictError):
        second.take()
    first.take()


def test_vms_keep_the_seat_for_the_machine_that_has_them(asking: Asking) -> None:
    first, second = asking.machine("first", "a" * 12), asking.machine("second", "b" * 12)
    first.take()
    asking.lease()
    for _ in range(2):
        with pytest.raises(ConflictError, match="1 VMs are on it"):
            second.take()
        time.sleep(2 * SILENCE_S)


def test_a_machine_that_was_rebooted_has_its_seat_and_so_has_one_installed_anew_under_its_id(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = asking.machine("first", "a" * 12)
    first.take()
    asking.lease()
    another = tmp_path / "boot_id"
    another.write_text("another")
    monkeypatch.setattr(boot, "BOOT_ID", another)
    with caplog.at_level(logging.WARNING, logger=seat.log.name):  # whatever others did to the root's
        first.wait(threading.Event())
    (said,) = caplog.messages
    assert f"its last boot, which is over when it was silent for {SILENCE_S} s" in said
    assert "another machine" not in said
    anew = asking.machine("anew", "b" * 12)
    (tmp_path / "anew" / "host.id").write_text("a" * 12)
    anew.wait(threading.Event())


# --- real workers --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with farm_box("micro", change=without_flower, accelerator="tcg") as made:
        yield made


@pytest.fixture
def twin(box: Box, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A second machine with the first one's name, on the first one's Redis."""
    planned = control.farm_plan
    monkeypatch.setattr(control, "farm_plan", lambda *given: without_flower(planned(*given)))
    address = f"redis://{box.url('cli').rpartition('@')[2]}"
    root = box.root / "twin"
    made = box.settings.model_copy(
        update={"state_dir": root / "state", "run_dir": root / "run", "redis_url": address}
    )
    made.state_dir.mkdir(parents=True, mode=0o711)
    shutil.copy(box.settings.farm_file, made.farm_file)
    with inside(box.network):
        yield made
        control.down(made)
    shutil.rmtree(root)


def test_the_second_machine_of_a_name_serves_nobody_and_loses_nothing(box: Box, twin: Settings) -> None:
    farm, records = box.farm, box.farm.records
    kept = farm.create("kept", start=False)
    before = records.seat("box")["id"]
    with pytest.raises(ConflictError, match="another machine serves the host box") as refused:
        control.up(twin)
    assert before in refused.value.details
    assert box.paths.host_id.read_text().strip() == before != twin.paths.host_id.read_text().strip()
    told = farm_paths(twin).log("worker").read_text(), farm_paths(twin).log("root-worker").read_text()
    assert all("another machine serves the host box" in log for log in told)
    seats = [check for check in examine(gather(twin)) if check.name == "seat"]
    assert [(seat.status, before in seat.found) for seat in seats] == [("fail", True)]
    record = farm.show("kept")
    assert (record.state, record.rev) == (State.STOPPED, kept.rev), "neither lost nor restored"
    assert records.seat("box")["id"] == before
    assert farm.create("other", start=False).state is State.STOPPED
    assert not [p for p in twin.paths.vms.iterdir() if p.is_dir()]
    farm.delete("kept")
    farm.delete("other")


def test_a_machine_that_has_lost_its_seat_ends_and_waits(box: Box) -> None:
    with inside(box.network):
        workers = pids(box)
        thief = Machine("f" * 12, "elsewhere")
        box.admin.redis.hset(seat_key("box"), mapping=thief._asdict())
        eventually(lambda: not pids(box) & workers)
        assert box.admin.seat("box")["id"] == thief.id
        eventually(lambda: box.admin.seat("box")["id"] != thief.id)  # the thief is silent, and has no VMs
        eventually(lambda: all(map(box.farm.records.serving, (CONTROL, work_queue("box")))))
        assert box.farm.create("dev", start=False).state is State.STOPPED
        box.farm.delete("dev")


def pids(box: Box) -> set[int | None]:
    """Return who is at work for the seat."""
    workers = ("worker", "root-worker")
    return {one.pid for one in control.status(box.settings).services if one.name in workers} - {None}
