"""The tap stage against a real kernel, in a network namespace of each test's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from netns import private_network

from banger.contracts.errors import ConflictError, PolicyError, StageFailedError, StaleGenerationError
from banger.contracts.names import BRIDGE, link_alias, mac_address, tap_name
from banger.contracts.policy import Policy
from banger.contracts.requests import TapRequest, UndoRequest
from banger.embedded import network
from banger.embedded.services import ROOT_THREADS
from banger.settings import Settings
from root_worker.host import RootHost, root_host
from root_worker.ops import guest_network
from root_worker.ops.tap import open_tap
from root_worker.stages import tap

pytestmark = pytest.mark.integration

VM = "0123456789ab"
TWIN = "0123456789ac"  # the same tap name, another VM
OTHER = "ba9876543210"
SETTINGS = Settings(host="here")
LARGE = Settings(host="here", network=IPv4Network("172.16.0.0/16"))


@contextmanager
def network_of(settings: Settings, directory: Path) -> Iterator[RootHost]:
    """Put this thread into a network with the guests' bridge, and yield its host."""
    with private_network():
        network.ensure(settings)
        paths = {"state_dir": directory / "state", "run_dir": directory / "run"}
        yield root_host(Policy(host="here", network=settings.network, **paths))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RootHost]:
    with network_of(SETTINGS, tmp_path) as made:
        yield made


@pytest.fixture
def large_host(tmp_path: Path) -> Iterator[RootHost]:
    with network_of(LARGE, tmp_path) as made:
        yield made


def request(vm_id: str = VM, *, slot: int = 2, nat: bool = False, generation: int = 1) -> TapRequest:
    return TapRequest(vm_id=vm_id, generation=generation, slot=slot, nat=nat)


def undo_of(vm_id: str = VM, generation: int = 1) -> UndoRequest:
    return UndoRequest(vm_id=vm_id, generation=generation)


def tool(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def links() -> dict[str, Any]:
    return {link["ifname"]: link for link in json.loads(tool("ip", "-d", "-j", "link"))}


def ruleset() -> str:
    return tool("nft", "list", "ruleset")


def state_of(vm_id: str) -> tuple[Any, ...]:
    link = links()[tap_name(vm_id)]
    kept = ("ifindex", "address", "ifalias", "master")  # the rest has timers, and a carrier that settles
    return *(link[key] for key in kept), link["linkinfo"]["info_data"], ruleset()


def neighbours() -> dict[str, Any]:
    return {known["dst"]: known for known in json.loads(tool("ip", "-j", "neigh", "show", "nud", "all"))}


def assert_nothing_left(vm_id: str = VM) -> None:
    assert tap_name(vm_id) not in links()
    assert "172.16.0.2" not in neighbours()
    assert tap_name(vm_id) not in ruleset()


def test_the_tap_is_owned_by_the_slots_uid_named_by_alias_isolated_and_up(host: RootHost) -> None:
    tap.do(request(), host)
    link = links()[tap_name(VM)]
    assert link["ifalias"] == link_alias(VM)
    assert link["master"] == BRIDGE
    assert "UP" in link["flags"]
    assert link["linkinfo"]["info_data"]["user"] == 300_002
    assert link["linkinfo"]["info_data"]["persist"]
    assert link["linkinfo"]["info_slave_data"]["isolated"]
    assert not link["linkinfo"]["info_slave_data"]["learning"]


def test_the_bridge_has_the_gateways_address_and_a_mac_that_stays(host: RootHost) -> None:
    (bridge,) = json.loads(tool("ip", "-j", "addr", "show", "dev", BRIDGE))
    assert [(a["local"], a["prefixlen"]) for a in bridge["addr_info"]] == [("172.16.0.1", 24)]
    tap.do(request(OTHER, slot=3), host)
    tap.undo(undo_of(), host)
    assert links()[BRIDGE]["address"] == bridge["address"] == "02:fc:ac:10:00:01"


def test_the_host_speaks_to_its_own_address_under_it(host: RootHost) -> None:
    """What listens there, the name server, may be kept from all but guests."""
    network.remove_if_unused(SETTINGS)  # a host has had its other links for longer
    tool("ip", "link", "set", "lo", "up")
    tool("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "out")
    tool("ip", "addr", "add", "198.51.100.1/24", "dev", "uplink")
    tool("ip", "link", "set", "uplink", "up")
    network.ensure(SETTINGS)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
    ):
        listening.bind(("172.16.0.1", 0))
        listening.settimeout(5)
        asking.sendto(b"who am I?", listening.getsockname())
        assert listening.recvfrom(16)[1][0] == "172.16.0.1"


def test_the_network_is_made_again_without_a_change(host: RootHost) -> None:
    tap.do(request(nat=True), host)
    once, addresses = state_of(VM), tool("ip", "-j", "addr", "show", "dev", BRIDGE)
    network.ensure(SETTINGS)
    assert (state_of(VM), tool("ip", "-j", "addr", "show", "dev", BRIDGE)) == (once, addresses)


def test_the_network_stays_while_a_tap_is_there_and_is_gone_without(host: RootHost) -> None:
    tap.do(request(), host)
    before = state_of(VM)
    assert not network.remove_if_unused(SETTINGS)
    assert state_of(VM) == before
    tap.undo(undo_of(), host)
    assert network.remove_if_unused(SETTINGS)
    assert network.remove_if_unused(SETTINGS)
    assert set(links()) == {"lo"}
    assert ruleset() == ""


@pytest.mark.parametrize(
    "damage",
    [
        ("ip", "link", "del", BRIDGE),
        ("ip", "link", "set", BRIDGE, "down"),
        ("ip", "link", "set", BRIDGE, "address", "02:00:00:00:00:01"),
        ("nft", "flush", "ruleset"),
        ("nft", "delete", "table", "inet", "banger"),
        ("nft", "delete", "table", "bridge", "banger"),
    ],
    ids=" ".join,
)
def test_no_guest_is_let_onto_a_network_that_is_not_whole(host: RootHost, damage: tuple[str, ...]) -> None:
    tool(*damage)
    with pytest.raises(StageFailedError, match="banger farm up"):
        tap.do(request(), host)
    assert tap_name(VM) not in links()
    network.ensure(SETTINGS)
    tap.do(request(), host)
    assert links()[tap_name(VM)]["master"] == BRIDGE


def test_a_guest_whose_rules_were_flushed_is_mute_until_it_is_started_again(host: RootHost) -> None:
    tap.do(request(), host)
    whole = ruleset()
    tool("nft", "flush", "ruleset")
    network.ensure(SETTINGS)
    assert f'"{tap_name(VM)}"' not in ruleset()
    tap.do(request(generation=2), host)
    assert ruleset() == whole


def test_the_host_knows_the_guests_mac_without_asking(host: RootHost) -> None:
    tap.do(request(), host)
    known = neighbours()["172.16.0.2"]
    assert (known["lladdr"], known["state"]) == ("02:fc:ac:10:00:02", ["PERMANENT"])


def test_the_bridge_knows_the_guests_mac_and_where_it_is(host: RootHost) -> None:
    tap.do(request(), host)
    known = json.loads(tool("bridge", "-j", "fdb", "show", "br", BRIDGE))
    mine = [(one["ifname"], one["state"]) for one in known if one["mac"] == "02:fc:ac:10:00:02"]
    # An address of the host's own, as the bridge sees it: no other port's, whatever that port's MAC becomes.
    assert mine == [(tap_name(VM), "permanent")]


def test_doing_it_twice_changes_nothing(host: RootHost) -> None:
    tap.do(request(nat=True), host)
    once = state_of(VM)
    tap.do(request(nat=True), host)
    assert state_of(VM) == once


def test_doing_it_again_while_a_vmm_holds_the_tap_is_no_error(host: RootHost) -> None:
    tap.do(request(), host)
    with os.fdopen(open_tap(VM), "rb"):
        tap.do(request(), host)


def test_a_restart_without_nat_takes_it_away(host: RootHost) -> None:
    tap.do(request(), host)
    without = ruleset()
    tap.do(request(nat=True, generation=2), host)
    assert ruleset() != without
    tap.do(request(generation=3), host)
    assert ruleset() == without


def test_undo_before_do_is_no_error(host: RootHost) -> None:
    tap.undo(undo_of(), host)
    assert_nothing_left()


def test_undo_for_a_vm_that_root_does_not_know_touches_nothing(host: RootHost) -> None:
    tap.do(request(), host)
    before = state_of(VM)
    host.registry.forget(VM)
    tap.undo(undo_of(), host)
    assert state_of(VM) == before
    assert host.registry.get(VM) is None


def test_undo_after_do_and_again_leaves_nothing(host: RootHost) -> None:
    tap.do(request(nat=True), host)
    tap.undo(undo_of(), host)
    assert_nothing_left()
    tap.undo(undo_of(), host)
    assert_nothing_left()


def test_undo_after_half_a_do_removes_rules_without_a_tap(
    host: RootHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StageFailedError("the tap cannot be made")

    monkeypatch.setattr(tap, "create_tap", refuse)
    with pytest.raises(StageFailedError):
        tap.do(request(), host)
    assert tap_name(VM) in ruleset()
    tap.undo(undo_of(), host)
    assert_nothing_left()


def test_undo_removes_a_tap_whose_rules_are_gone(host: RootHost) -> None:
    tap.do(request(), host)
    tool("nft", "flush", "ruleset")
    tap.undo(undo_of(), host)
    assert_nothing_left()


def test_a_strangers_interface_of_that_name_is_refused_and_left_alone(host: RootHost) -> None:
    tool("ip", "tuntap", "add", "dev", tap_name(VM), "mode", "tap")
    with pytest.raises(PolicyError, match="not a tap of VM"):
        tap.do(request(), host)
    tap.undo(undo_of(), host)
    assert "master" not in links()[tap_name(VM)]


def test_a_vm_whose_id_differs_in_the_last_digit_cannot_take_the_tap_or_its_rules(host: RootHost) -> None:
    tap.do(request(), host)
    before = state_of(VM)
    with pytest.raises(PolicyError):
        tap.do(request(TWIN, slot=3), host)
    tap.undo(undo_of(TWIN), host)
    with pytest.raises(PolicyError):
        open_tap(TWIN)
    assert state_of(VM) == before


def test_an_interface_that_is_no_bridge_is_not_used_as_one_nor_removed(host: RootHost) -> None:
    tool("ip", "link", "del", BRIDGE)
    tool("ip", "tuntap", "add", "dev", BRIDGE, "mode", "tap")
    with pytest.raises(ConflictError, match="not a bridge"):
        network.ensure(SETTINGS)
    with pytest.raises(StageFailedError, match="no bridge"):
        tap.do(request(), host)
    tap.undo(undo_of(), host)
    network.remove_if_unused(SETTINGS)
    assert BRIDGE in links()


def test_a_foreign_nft_table_is_not_touched(host: RootHost) -> None:
    tool("nft", "add table inet theirs; add chain inet theirs banger; add rule inet theirs banger accept")
    theirs = tool("nft", "list", "table", "inet", "theirs")
    tap.do(request(nat=True), host)
    network.ensure(SETTINGS)
    tap.undo(undo_of(), host)
    network.remove_if_unused(SETTINGS)
    assert ruleset() == theirs


def test_rules_that_the_kernel_refuses_leave_no_tap(host: RootHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_network, "guest_rules", lambda *_, **__: ["add rule inet absent absent accept"])
    with pytest.raises(StageFailedError, match="nft"):
        tap.do(request(), host)
    assert_nothing_left()


def test_a_request_of_an_older_start_is_refused(host: RootHost) -> None:
    tap.do(request(generation=2), host)
    with pytest.raises(StaleGenerationError):
        tap.undo(undo_of(generation=1), host)
    assert tap_name(VM) in links()


def test_a_slot_outside_the_network_is_refused_before_anything_happens(host: RootHost) -> None:
    with pytest.raises(PolicyError):
        tap.do(request(slot=255), host)
    assert set(links()) == {"lo", BRIDGE}


def test_opening_a_tap_that_is_not_there_makes_none(host: RootHost) -> None:
    with pytest.raises(StageFailedError, match="no tap"):
        open_tap(VM)
    assert set(links()) == {"lo", BRIDGE}


def test_forwarding_is_switched_on_for_nat_only(host: RootHost) -> None:
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    tap.do(request(), host)
    assert forwarding.read_text() == "0\n"
    tap.do(request(nat=True), host)
    assert forwarding.read_text() == "1\n"


def test_twenty_taps_in_parallel_come_and_go(host: RootHost) -> None:
    ids = [f"{number:011x}0" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        list(
            pool.map(lambda vm_id, slot: tap.do(request(vm_id, slot=slot, nat=True), host), ids, range(2, 22))
        )
        assert {tap_name(vm_id) for vm_id in ids} <= set(links())
        list(pool.map(lambda vm_id: tap.undo(undo_of(vm_id), host), ids))
    assert set(links()) == {"lo", BRIDGE}
    assert "bgr-" not in ruleset().replace("bgr-*", "")


def test_two_hundred_taps_on_the_largest_network_come_and_go(large_host: RootHost) -> None:
    """By as many threads as root has, in slots from the first to the last."""
    slots = [2 + number * 65_532 // 199 for number in range(200)]
    ids = {slot: f"{slot:011x}0" for slot in slots}
    with ThreadPoolExecutor(ROOT_THREADS) as pool:
        list(
            pool.map(lambda slot: tap.do(request(ids[slot], slot=slot, nat=slot % 2 == 0), large_host), slots)
        )
        found, known, rules = links(), neighbours(), ruleset()
        for slot, vm_id in ids.items():
            assert found[tap_name(vm_id)]["linkinfo"]["info_data"]["user"] == 300_000 + slot
            assert found[tap_name(vm_id)]["linkinfo"]["info_slave_data"]["isolated"]
            address = str(LARGE.network.network_address + slot)
            assert known[address]["lladdr"] == mac_address(IPv4Address(address))
            assert f"ip saddr != {address} drop" in rules
        assert str(LARGE.network.network_address + 65_534) in known
        list(pool.map(lambda vm_id: tap.undo(undo_of(vm_id), large_host), ids.values()))
    assert set(links()) == {"lo", BRIDGE}
    assert not any("PERMANENT" in one["state"] and one["dev"] == BRIDGE for one in neighbours().values())
    assert "bgr-" not in ruleset().replace("bgr-*", "")
    assert network.remove_if_unused(LARGE)


def test_a_bridge_without_a_free_port_is_told(host: RootHost) -> None:
    pairs = "".join(f"link add p{number} type veth peer name q{number}\n" for number in range(512))
    ports = [f"{end}{number}" for number in range(512) for end in "pq"][:1023]
    batch = pairs + "".join(f"link set {port} master {BRIDGE}\n" for port in ports)
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
    with pytest.raises(StageFailedError, match="no port left"):
        tap.do(request(), host)
    tap.undo(undo_of(), host)
    assert_nothing_left()
    tool("ip", "link", "del", "p0")
    tap.do(request(), host)
