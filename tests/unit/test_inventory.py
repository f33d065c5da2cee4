"""Whose the objects are that root finds on its host, and what it says of them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from banger.contracts.dm_snapshot import Overlay
from banger.contracts.inventory import (
    MOST_STRANGE,
    Found,
    Inventory,
    found_id,
    found_loop,
    found_tap,
    sort_out,
    vm_told,
)
from banger.contracts.policy import Policy
from root_worker import inventory, objects
from root_worker.host import RootHost, root_host
from root_worker.inventory import Stock
from root_worker.ops import dm_snapshot

ME = "f" * 12
OURS, LOST = "0123456789ab", "ba9876543210"
KNOWN = {OURS: 2}
VMS = Path("/state/vms")


def tap(name: str, alias: str | None, slot: int | None = None) -> Found:
    return found_tap(name, alias, slot)


def process(slot: int, vm_id: str | None = None) -> Found:
    return Found(kind="process", name="4711", vm_id=vm_id, slot=slot)


def chain(name: str) -> Found:
    return Found(kind="filter", name=name)


def loop(file: str, *, ours: bool = True) -> list[Found]:
    return list(found_loop("loop3", file, VMS, ours=ours))


@pytest.mark.parametrize(
    "found",
    [
        tap("bgr-0123456789a", f"banger-{OURS}", 2),
        chain("bgr-0123456789a"),
        found_id("dm", f"banger-{OURS}", OURS),
        *loop(f"/state/vms/{OURS}/overlay.img"),
        found_id("jail", OURS, OURS),
        found_id("cgroup", OURS, OURS),
        process(2),
    ],
    ids=lambda found: found.kind,
)
def test_what_belongs_to_a_registered_vm_is_its_own(found: Found) -> None:
    assert sort_out([found], KNOWN) == ({OURS: {found.kind}}, [], [])


@pytest.mark.parametrize(
    ("found", "vm_id"),
    [
        (tap("bgr-ba987654321", f"banger-{LOST}", 9), LOST),
        (chain("bgr-ba987654321"), None),
        (found_id("dm", f"banger-{LOST}", LOST), LOST),
        (loop(f"/state/vms/{LOST}/overlay.img")[0], LOST),
        (loop(f"/state/vms/{LOST}/overlay.img (deleted)")[0], LOST),
        (found_id("jail", LOST, LOST), LOST),
        (found_id("cgroup", LOST, LOST), LOST),
    ],
)
def test_what_is_ours_by_name_and_no_registered_vms_is_a_stray(found: Found, vm_id: str | None) -> None:
    has, strays, foreign = sort_out([found], KNOWN)
    assert (has, strays, foreign) == ({}, [found.model_copy(update={"vm_id": vm_id})], [])


@pytest.mark.parametrize(
    "found",
    [
        tap("bgr-0123456789a", None),
        tap("bgr-0123456789a", f"banger-{LOST}"),
        tap("bgr-ba987654321", f"banger-{LOST}"),  # another farm's: its owner is no slot's uid
        tap("bgr-0123456789a", OURS),
        tap("bgr-uplink", "the office"),
        chain("bgr-uplink"),
        found_id("dm", "banger-backup", "backup"),
        *loop(f"/state/vms/{OURS}/overlay.img", ours=False),
        *loop("/state/vms/mine.img"),
        found_id("jail", "0123456789AB", "0123456789AB"),
        found_id("cgroup", "init", "init"),
        process(9),  # a container's
        process(9, LOST),  # another farm's
        process(9, OURS),  # it does not say the truth: that VM's have another uid
    ],
    ids=lambda found: f"{found.kind}-{found.name}-{found.vm_id}",
)
def test_what_only_looks_like_ours_is_foreign(found: Found) -> None:
    has, strays, foreign = sort_out([found], KNOWN)
    assert (has, strays) == ({}, [])
    assert [(one.kind, one.name) for one in foreign] == [(found.kind, found.name)]


def test_a_process_that_says_of_which_vm_it_is_is_ours_where_we_have_its_jail() -> None:
    _, strays, foreign = sort_out([process(9, LOST), found_id("jail", LOST, LOST)], KNOWN)
    assert ({stray.vm_id for stray in strays}, foreign) == ({LOST}, [])


def test_a_lost_taps_alias_tells_whose_its_filter_is() -> None:
    _, strays, _ = sort_out([chain("bgr-ba987654321"), tap("bgr-ba987654321", f"banger-{LOST}", 9)], KNOWN)
    assert {stray.vm_id for stray in strays} == {LOST}


def test_a_loop_over_any_other_file_is_nothing_of_ours() -> None:
    assert loop("/state/images/aaaaaaaaaaaa/rootfs.ext4") == loop("/state/vms-of-mine/x") == []


def test_one_cgroup_in_three_hierarchies_is_told_once() -> None:
    assert len(sort_out([found_id("cgroup", LOST, LOST)] * 3, KNOWN).strays) == 1


@pytest.mark.parametrize(
    ("said", "vm_id"),
    [
        (["5:memory:/\n3:pids:/banger/0123456789ab\n", ""], OURS),
        (["0::/banger/0123456789ab\n", ""], OURS),
        (["0::/somebody/banger/0123456789abc\n", ""], None),
        (["0::/\n", "/usr/bin/python3\0-I\0-S\0/keeper/keeper.py\0banger-0123456789ab\0"], OURS),
        (["0::/banger/0123456789ab\n", "keeper.py\0banger-ba9876543210\0"], OURS),
        (["0::/\n", "sleep\x0060\0"], None),
        ([], None),
    ],
)
def test_a_process_is_told_by_its_cgroup_or_else_by_its_argument(said: list[str], vm_id: str | None) -> None:
    assert vm_told(said, "banger") == vm_id


def test_a_long_list_is_cut_and_it_is_said() -> None:
    many = [found_id("jail", f"{number:012x}", f"{number:012x}") for number in range(MOST_STRANGE + 1)]
    told = Inventory(at=1.0, incarnation=ME, vms=()).having(2.0, [], many, {})
    assert len(told.strays) == MOST_STRANGE
    assert told.unreadable == ("strays: there are 501, of which 500 are told",)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RootHost:
    monkeypatch.setattr(inventory, "LOOKS", {})
    policy = Policy(
        host="here", state_dir=tmp_path / "state", run_dir=tmp_path / "run", uid_base=1_900_000_000
    )
    return root_host(policy)


def test_a_kind_that_cannot_be_read_is_named_with_the_reason_and_the_others_are_told(
    host: RootHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: RootHost) -> Iterator[Found]:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    lost = found_id("jail", LOST, LOST)
    monkeypatch.setattr(inventory, "LOOKS", {"tap": broken, "jail": lambda _: [lost]})
    told = Stock(host, ME).take()
    assert told.unreadable == ("tap: [Errno 1] Operation not permitted",)
    assert told.strays == (lost,)


def test_a_vm_that_was_removed_since_the_look_has_left_no_stray(
    host: RootHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def dear(_: RootHost) -> list[Found]:
        looks.append(1)
        return [found_id("jail", OURS, OURS)]

    monkeypatch.setattr(inventory, "LOOKS", {"jail": dear})
    monkeypatch.setattr(inventory, "_SHARE", 1e9)
    stock = Stock(host, ME)
    host.registry.admit(OURS, 1, 2)
    first = stock.take()
    host.registry.forget(OURS)
    then = stock.take()
    assert len(looks) == 1
    assert [vm.has for vm in first.vms] == [("jail",)]
    assert (then.vms, then.strays) == ((), ())
    assert then.objects_at == first.objects_at <= first.at < then.at


def test_device_mapper_devices_are_told_by_their_names(
    host: RootHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device, name in {
        "dm-0": f"banger-{LOST}",
        "dm-1": "swap",
        "dm-2": "banger-backup",
        "dm-3": f"banger-{OURS}",
    }.items():
        (tmp_path / "block" / device / "dm").mkdir(parents=True)
        (tmp_path / "block" / device / "dm/name").write_text(f"{name}\n")
    (tmp_path / "block/sda").mkdir()
    for device, file in {"dm-0": host.paths.overlay(LOST), "dm-3": Path("/other/vms/x/overlay.img")}.items():
        (tmp_path / "block" / device / "slaves/loop0/loop").mkdir(parents=True)
        (tmp_path / "block" / device / "slaves/loop0/loop/backing_file").write_text(f"{file}\n")
    monkeypatch.setattr(objects, "_BLOCK_DEVICES", tmp_path / "block")
    monkeypatch.setattr(inventory, "LOOKS", {"dm": objects.LOOKS["dm"]})
    full = {f"banger-{LOST}": Overlay(percent=50)}
    monkeypatch.setattr(dm_snapshot, "usage", full.get)
    told = Stock(host, ME).take()
    assert [(stray.name, stray.vm_id) for stray in told.strays] == [(f"banger-{LOST}", LOST)]
    host.registry.admit(LOST, 1, 2)
    (vm,) = Stock(host, ME).take().vms
    assert (vm.has, vm.overlay) == (("dm",), Overlay(percent=50))
    assert sorted(one.name for one in told.foreign) == [f"banger-{OURS}", "banger-backup"]


def test_without_the_kernels_list_of_devices_nothing_is_known_of_them(
    host: RootHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_BLOCK_DEVICES", tmp_path / "block")
    monkeypatch.setattr(inventory, "LOOKS", {kind: objects.LOOKS[kind] for kind in ("dm", "loop")})
    assert [line.partition(":")[0] for line in Stock(host, ME).take().unreadable] == ["dm", "loop"]
