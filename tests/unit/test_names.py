"""Which VM has a name, as files that follow the records, whoever wrote those."""

from __future__ import annotations

import errno
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banger.contracts.names import HostPaths
from banger.contracts.spec import VmSpec
from banger.contracts.states import State
from banger.records import Record
from workers.host import WorkHost
from workers.names import Names, line, whose

A, B = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
NETWORK = IPv4Network("172.16.0.0/24")


def record(vm_id: str = A, **changes: object) -> Record:
    values = {
        "id": vm_id,
        "name": "dev",
        "state": State.RUNNING,
        "generation": 1,
        "host": "h1",
        "slot": 2,
        "address": "172.16.0.2",
        "image": "0" * 12,
        "kernel": "0" * 12,
        "spec": VmSpec(name="dev", image="micro"),
        "created_at": 0.0,
    }
    return Record.model_validate(values | changes)


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    made = HostPaths(tmp_path, tmp_path / "run")
    made.names.mkdir()
    made.vms.mkdir()
    return made


@pytest.fixture
def names(paths: HostPaths) -> Names:
    return Names(WorkHost("h1", paths, NETWORK, 300_000, names=True))


def told(paths: HostPaths) -> dict[str, str]:
    return {path.name: path.read_text() for path in paths.names.iterdir()}


DEV = {"172.16.0.2": f"172.16.0.2 dev.vm # {A}\n"}


@pytest.mark.parametrize("state", State)
def test_a_vm_has_a_name_while_it_is_made_started_or_runs(state: State) -> None:
    named = state in (State.CREATING, State.STARTING, State.RUNNING)
    assert (line(record(state=state), "h1", NETWORK) is not None) == named


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "dev.vm # x\n172.16.0.1 evil"},
        {"name": "dev\n"},
        {"name": ""},
        {"name": "-dev"},
        {"name": "a.b"},
        {"address": "172.16.0.2\n1.2.3.4 bank.example"},
        {"address": "172.16.1.2"},
        {"address": "../../etc/passwd"},
        {"address": None},
        {"vm_id": "dev"},
        {"vm_id": f"{A}\n172.16.0.3 other.vm"},
        {"host": "h2"},
    ],
    ids=str,
)
def test_what_is_no_name_or_address_of_this_host_gets_into_no_file(
    names: Names, paths: HostPaths, changes: dict[str, str]
) -> None:
    names.follow(record(**changes))
    assert told(paths) == {}


@given(st.text(max_size=80), st.text(max_size=40))
def test_whatever_a_record_says_a_file_is_one_line_of_an_address_here(name: str, address: str) -> None:
    said = line(record(name=name, address=address), "h1", NETWORK)
    assert said is None or (said.count("\n") == 1 and said.startswith("172.16.0."))


def test_a_name_comes_goes_and_comes_again_with_its_vm(names: Names, paths: HostPaths) -> None:
    names.follow(record(state=State.CREATING))
    assert told(paths) == DEV
    assert (paths.names / "172.16.0.2").stat().st_mode & 0o777 == 0o644
    names.follow(record())
    names.follow(record(state=State.STOPPING))
    assert told(paths) == {}
    names.follow(record(state=State.STOPPED))
    names.follow(record(state=State.STARTING))
    assert told(paths) == DEV


def test_who_is_late_takes_no_name_from_the_next_vm_of_the_address(names: Names, paths: HostPaths) -> None:
    names.follow(record())
    names.follow(record(B))
    names.follow(record(state=State.GONE))
    assert whose(told(paths)["172.16.0.2"]) == B


def test_what_differs_is_settled(names: Names, paths: HostPaths) -> None:
    (paths.names / "172.16.0.2").write_text(f"172.16.0.2 old.vm # {A}\n")  # it was renamed
    (paths.names / "172.16.0.3").write_text(f"172.16.0.3 gone.vm # {B}\n")
    (paths.names / "172.16.0.4").write_text("what is this?")
    (paths.names / "172.16.0.5").write_text(f"172.16.0.5 dev.vm # {A}\n")  # it had another address
    (paths.names / ".172.16.0.2.new").write_text("half")
    records = {A: record()}
    names.settle(records, records.get)
    (paths.names / ".172.16.0.2.new").unlink(missing_ok=True)
    assert told(paths) == DEV


def test_what_was_read_a_while_ago_undoes_nothing(names: Names, paths: HostPaths) -> None:
    now = {A: record()}
    names.follow(now[A])
    names.settle({}, now.get)
    assert told(paths) == DEV
    names.follow(record(state=State.STOPPING))
    names.settle(now, {A: record(state=State.STOPPING)}.get)
    assert told(paths) == {}


def test_what_redis_has_forgotten_keeps_its_name_while_its_host_knows_it(
    names: Names, paths: HostPaths
) -> None:
    paths.vm(A).mkdir()
    names.follow(record())
    names.settle({}, lambda _: None)
    assert told(paths) == DEV
    paths.vm(A).rmdir()
    names.settle({}, lambda _: None)
    assert told(paths) == {}


def test_without_a_name_server_nothing_is_written(paths: HostPaths) -> None:
    names = Names(WorkHost("h1", paths, NETWORK, 300_000))
    names.follow(record())
    names.settle({A: record()}, {A: record()}.get)
    assert told(paths) == {}


def test_what_cannot_be_removed_fails_no_look_at_the_host(
    names: Names, paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    names.follow(record())
    monkeypatch.setattr(Path, "unlink", read_only)
    names.settle({}, lambda _: None)
    names.follow(record(state=State.STOPPING))
    assert told(paths) == DEV


def test_what_cannot_be_written_fails_no_job(names: Names, paths: HostPaths) -> None:
    paths.names.rmdir()
    names.follow(record())
    names.settle({A: record()}, {A: record()}.get)
