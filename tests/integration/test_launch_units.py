"""VMs in units of systemd's: what root does for them, with a stand-in that makes cgroups as systemd does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import UID, VM, undo_request
from firecracker_pair import installed_pair, with_pair
from systemd_stand_in import StandIn, stand_in
from vmm_host import GREETING, eventually, install_kernel, log_of, pids, request, vmm_host, with_tap

from banger.contracts.errors import StageFailedError
from banger.contracts.inventory import Found
from banger.contracts.names import unit_name
from banger.contracts.vmm_limits import limits
from root_worker import objects
from root_worker.host import RootHost
from root_worker.stages import launch
from root_worker.vmm import processes, units
from root_worker.vmm.jail import locked

pytestmark = pytest.mark.integration
UNIT = unit_name(VM)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in(tmp_path, monkeypatch) as made:
        yield made
        processes.end(UID, "KILL")


@pytest.fixture
def host(launching_host: RootHost, systemd: StandIn) -> Iterator[RootHost]:
    """A host whose VMs have units."""
    made = with_tap(launching_host)._replace(units=True)
    yield made
    launch.undo(undo_request(), made)
    for path in made.paths.vm(VM).glob("serial.log*"):
        path.unlink()


def groups_of(pid: int | None) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def nothing_is_left(host: RootHost, systemd: StandIn) -> None:
    assert pids() == (None, None)
    assert not list(systemd.transient.iterdir())
    eventually(lambda: not (systemd.slice / UNIT).exists())
    assert not list(host.paths.jails.iterdir())


def test_the_vmm_and_its_keeper_live_in_the_unit_and_nothing_else_does(host, systemd):
    answer = launch.do(request(), host)
    group = systemd.slice / UNIT
    eventually(lambda: {int(pid) for pid in (group / "cgroup.procs").read_text().split()} == set(pids()))
    assert all(UNIT in groups_of(pid) for pid in pids())
    assert set(answer["limits"]) == {*limits(1, 64), "io"} & set(
        (group / "cgroup.controllers").read_text().split()
    )
    assert answer == launch.do(request(), host)
    assert len(systemd.asked) == 1
    eventually(lambda: GREETING in log_of(host))
    with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(host.paths.jail(VM) / "unit.sock"))

    launch.undo(undo_request(), host)
    nothing_is_left(host, systemd)
    assert len(systemd.asked) == 1, "a unit goes with what lived in it: nobody has to be asked"


def test_firecracker_is_put_into_it_as_well_and_goes_with_it(systemd):
    with installed_pair() as pair, vmm_host() as made:
        install_kernel(made, b"say a guest is up\n")
        host = with_pair(with_tap(made), pair)._replace(units=True)
        launch.do(request(), host)
        assert all(UNIT in groups_of(pid) for pid in pids())
        eventually(lambda: "a guest is up" in log_of(host))
        launch.undo(undo_request(), host)
        nothing_is_left(host, systemd)


def test_a_unit_is_found_by_its_name(host, systemd):
    assert list(objects.LOOKS["unit"](host)) == []
    launch.do(request(), host)
    (systemd.transient / unit_name("not-an-id")).touch()
    assert sorted(objects.LOOKS["unit"](host), key=lambda one: one.name) == [
        Found(kind="unit", name=UNIT, vm_id=VM),
        Found(kind="unit", name=unit_name("not-an-id")),
    ]
    assert list(objects.LOOKS["unit"](host._replace(units=False))) == [], "another farm's, on this machine"
    (systemd.transient / unit_name("not-an-id")).unlink()


def test_a_name_that_is_taken_breaks_no_start(host, systemd, monkeypatch):
    monkeypatch.setattr(units, "_GRACE_S", 0.05)
    (systemd.transient / UNIT).touch()  # of a start that failed, and which nobody has collected
    launch.do(request(), host)
    assert None not in pids()


def test_a_unit_that_nothing_lives_in_is_removed(host, systemd, monkeypatch):
    monkeypatch.setattr(units, "_GRACE_S", 0.05)
    (systemd.transient / UNIT).touch()
    launch.undo(undo_request(), host)
    nothing_is_left(host, systemd)


@pytest.mark.parametrize("fails", ["refused", "before", "late"])
def test_without_its_unit_a_vm_is_not_started_and_it_is_said_why(host, systemd, monkeypatch, fails):
    monkeypatch.setattr(units, "_DEADLINE_S", 0.3)
    monkeypatch.setattr(units, "_GRACE_S", 0.05)
    systemd.fails = fails
    with pytest.raises(StageFailedError, match=f"systemd does not make {UNIT}") as caught:
        launch.do(request(), host)
    assert "already loaded" in caught.value.details or "has failed" in caught.value.details
    assert f"journalctl -u {UNIT}" in caught.value.resolution
    launch.undo(undo_request(), host)
    nothing_is_left(host, systemd)


def test_whoever_else_comes_is_not_taken_for_the_unit(host, systemd, monkeypatch):
    def come_instead(argv, **_):
        (path,) = (word.partition("=file:")[2] for word in argv if "StandardInput=file:" in word)
        stranger.connect(path)

    monkeypatch.setattr(units, "run", come_instead)
    with socket.socket(socket.AF_UNIX) as stranger:
        (systemd.transient / UNIT).touch()
        monkeypatch.setattr(units, "remove", lambda _: None)
        with pytest.raises(StageFailedError) as caught:
            launch.do(request(), host)
    assert "has come instead" in caught.value.details
    (systemd.transient / UNIT).unlink()


def test_a_unit_that_nobody_was_put_into_ends_by_itself(host, systemd):
    with locked(host.paths, VM) as jail, units.limited(jail, VM, limits(1, 64)):
        assert (systemd.transient / UNIT).exists()
    eventually(lambda: not (systemd.transient / UNIT).exists())
    launch.undo(undo_request(), host)
    nothing_is_left(host, systemd)
