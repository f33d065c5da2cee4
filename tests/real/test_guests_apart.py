"""Guests that attack each other and their host, as root in them would: with the guard, and without."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

import pytest
from farm_box import Box, answer
from guests import guest
from stand_ins import INTERNET, LAN, METADATA, outside_world
from unguarded import lift_the_guard

from banger.contracts.names import mac_address
from banger.embedded import network
from banger.records import Record

pytestmark = pytest.mark.real

GATEWAY = IPv4Address("172.16.0.1")
ATTACKS = Path(__file__).with_name("attacks.sh").read_text()
HARMLESS = {"ping the gateway", "DNS over UDP", "DNS over TCP"}
ALL = {line.split('"')[1] for line in ATTACKS.splitlines() if line.startswith('try "')}


def mac_of(vm: Record) -> str:
    return mac_address(IPv4Address(str(vm.address)))


class Two(NamedTuple):
    """A guest with NAT and one without."""

    box: Box
    nat: Record
    plain: Record


@pytest.fixture(scope="module")
def two(box: Box) -> Iterator[Two]:
    with outside_world(box.network):
        nat = box.farm.create("outgoing", nat=True)
        plain = box.farm.create("homely")
        yield Two(box, nat, plain)
        network.ensure(box.settings)
        for name in ("outgoing", "homely"):
            box.farm.delete(name)


def attack(box: Box, attacker: Record, neighbour: Record) -> set[str]:
    """Let one guest try what it can from within; return what worked."""
    number = attacker.slot
    values = {
        "NAME": attacker.name,
        "GATEWAY": GATEWAY,
        "GATEWAY_MAC": mac_address(GATEWAY),
        "LAN": LAN,
        "METADATA": METADATA,
        "INTERNET": INTERNET,
        "NEIGHBOUR": neighbour.address,
        "NEIGHBOUR_MAC": mac_of(neighbour),
        "NEIGHBOUR_IPV6": link_local(mac_of(neighbour)),
        "OTHER": GATEWAY + 100 + number,
        "ANOTHER": GATEWAY + 120 + number,
        "OTHER_MAC": mac_address(GATEWAY + 120 + number),
    }
    script = "".join(f"{name}='{value}'\n" for name, value in values.items()) + ATTACKS
    return set(guest(box, attacker.name, "sh", stdin=script.encode()).stdout.decode().splitlines())


def link_local(mac: str) -> str:
    """Return the IPv6 address that a kernel gives an interface with this MAC (RFC 4291, appendix A)."""
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    eui = bytes((first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:])).hex()
    return "fe80::" + ":".join(eui[at : at + 4] for at in range(0, 16, 4))


def answers_for_another(attacker: Record) -> bool:
    """Tell whether the host, asking who has an address, is told so by a guest that took it."""
    address = str(GATEWAY + 100 + attacker.slot)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.sendto(b"who is there?", (address, 9))
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        if any(known["dst"] == address and "lladdr" in known for known in answer("ip", "-j", "neigh")):
            return True
        time.sleep(0.05)
    return False


def test_guests_reach_what_they_may_and_without_the_guard_all_the_rest(two: Two) -> None:
    box, nat, plain = two
    with ThreadPoolExecutor(2) as pool:  # what fails takes its time
        trying = pool.submit(attack, box, nat, plain), pool.submit(attack, box, plain, nat)
        assert trying[0].result() == {*HARMLESS, "the internet"}
        assert trying[1].result() == HARMLESS
    assert not answers_for_another(nat)
    assert not answers_for_another(plain)
    lift_the_guard(nat.id, plain.id)
    for attacker, neighbour in ((nat, plain), (plain, nat)):
        assert attack(box, attacker, neighbour) == ALL
        assert answers_for_another(attacker)
