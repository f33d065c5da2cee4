"""What a guest can and cannot send, proven with real frames through a real bridge."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from fake_guest import BROADCAST, DEADLINE_S, FakeGuest, arp, ethernet, ipv4, ping, udp
from netns import inside, new_network
from pyroute2 import IPRoute

from banger.contracts.names import BRIDGE, mac_address
from banger.contracts.requests import TapRequest
from root_worker.host import RootHost, root_host
from root_worker.ops.guest_filter import remove_guest_filter
from root_worker.policy import Policy
from root_worker.stages import tap

pytestmark = pytest.mark.integration

GATEWAY = IPv4Address("172.16.0.1")
GATEWAY_MAC = mac_address(GATEWAY)
UPLINK = IPv4Address("198.51.100.1")  # the host's address on the way out
SERVER = IPv4Address("198.51.100.2")  # somebody on the internet
METADATA = IPv4Address("169.254.169.254")
UDP, ICMP = 17, 1
IP, ARP, IPV6, VLAN = 0x0800, 0x0806, 0x86DD, 0x8100

Boot = Callable[..., FakeGuest]
Wire = Callable[..., bool]


@pytest.fixture
def here() -> Iterator[int]:
    """Put the test into a network namespace of its own and yield its descriptor."""
    with new_network() as namespace, inside(namespace):
        yield namespace


@pytest.fixture
def host(here: int, tmp_path: Path) -> RootHost:
    return root_host(Policy(host="here", state_dir=tmp_path / "state", run_dir=tmp_path / "run"))


def vm_id_of(slot: int) -> str:
    return f"{slot:011x}0"


@pytest.fixture
def boot(host: RootHost) -> Iterator[Boot]:
    """Return a function that makes a guest on a slot; it has greeted the gateway."""
    with contextlib.ExitStack() as guests:

        def make(slot: int, *, nat: bool = False) -> FakeGuest:
            vm_id = vm_id_of(slot)
            tap.do(TapRequest(vm_id=vm_id, generation=1, slot=slot, nat=nat), host)
            guest = guests.enter_context(FakeGuest(vm_id, host.policy.slot(slot), GATEWAY_MAC))
            guest.meet_gateway()
            return guest

        yield make


@pytest.fixture
def wire(here: int) -> Iterator[Wire]:
    """Return a question: does this frame get past its port? A witness sends the frame that ends the wait."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as tapped:
        tapped.settimeout(DEADLINE_S)

        def passes(guest: FakeGuest, frame: bytes, witness: FakeGuest | None = None) -> bool:
            tapped.bind((BRIDGE, 0x0003))
            guest.send(frame)
            end = secrets.token_bytes(8)  # a new one each time: the host's reply carries it too
            (witness or guest).send_ip(GATEWAY, ICMP, ping(end))
            seen = []
            while end not in (received := tapped.recv(65536)):
                seen.append(received)
            return frame in seen

        yield passes


@pytest.fixture
def internet(here: int) -> Iterator[socket.socket]:
    """Yield a UDP socket on port 53 of SERVER and METADATA, in another namespace behind a veth pair."""
    with new_network() as outside, IPRoute() as ip:
        ip.link("add", ifname="uplink", kind="veth", peer={"ifname": "out", "net_ns_fd": outside})
        address(ip, "uplink", UPLINK, 24)
        (uplink,) = ip.link_lookup(ifname="uplink")
        ip.route("add", dst=f"{METADATA}/32", oif=uplink)
        with inside(outside), IPRoute() as there:
            address(there, "out", SERVER, 24)
            address(there, "out", METADATA, 32)
            there.route("add", dst="default", gateway=str(UPLINK))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
                server.settimeout(DEADLINE_S)
                server.bind(("", 53))
                with inside(here):
                    yield server


def address(ip: IPRoute, name: str, value: IPv4Address, prefix: int) -> None:
    (index,) = ip.link_lookup(ifname=name)
    ip.addr("add", index=index, address=str(value), prefixlen=prefix)
    ip.link("set", index=index, state="up")


def all_that_reached(guest: FakeGuest) -> list[bytes]:
    """Return the frames that have reached a guest, up to one that the host sends now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"the last one", (str(guest.slot.address), 9))
    return guest.frames_until(b"the last one")


def lawful_and_forged(guest: FakeGuest, neighbour: IPv4Address) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return frames that a guest may send, and frames that it may not, by what they are."""
    own, mac = guest.slot.address, guest.slot.mac
    theirs = mac_address(neighbour)
    nobody, everybody = IPv4Address("0.0.0.0"), IPv4Address("255.255.255.255")
    say = udp(68, 67, b"enough to say that the frame needs no padding")
    from_own = ipv4(own, GATEWAY, UDP, say)
    lawful = {
        "own MAC and address": ethernet(mac, GATEWAY_MAC, IP, from_own),
        "own ARP": ethernet(mac, BROADCAST, ARP, arp(1, mac, own, GATEWAY)),
    }
    forged = {
        "MAC of another": ethernet(theirs, GATEWAY_MAC, IP, from_own),
        "address of another": ethernet(mac, GATEWAY_MAC, IP, ipv4(neighbour, GATEWAY, UDP, say)),
        "address of the gateway": ethernet(mac, GATEWAY_MAC, IP, ipv4(GATEWAY, GATEWAY, UDP, say)),
        "no address, as DHCP": ethernet(mac, BROADCAST, IP, ipv4(nobody, everybody, UDP, say)),
        "own address to all": ethernet(mac, BROADCAST, IP, ipv4(own, everybody, UDP, say)),
        "ARP as the gateway": ethernet(mac, BROADCAST, ARP, arp(2, mac, GATEWAY, own)),
        "ARP with the MAC of another": ethernet(mac, BROADCAST, ARP, arp(2, theirs, own, GATEWAY)),
        "router advertisement": ethernet(mac, "33:33:00:00:00:01", IPV6, ipv6_advertisement()),
        "VLAN tag": ethernet(mac, GATEWAY_MAC, VLAN, b"\x00\x07\x08\x00" + from_own),
        "unknown protocol": ethernet(mac, GATEWAY_MAC, 0x88B5, say),
    }
    return lawful, forged


def ipv6_advertisement() -> bytes:
    link_local, all_nodes = IPv6Address("fe80::1"), IPv6Address("ff02::1")
    body = b"\x86\x00" + bytes(14)
    header = b"\x60" + bytes(3) + len(body).to_bytes(2, "big") + b"\x3a\xff"
    return header + link_local.packed + all_nodes.packed + body


def test_only_the_guests_own_frames_get_past_its_port(boot: Boot, wire: Wire) -> None:
    guest = boot(2, nat=True)
    lawful, forged = lawful_and_forged(guest, neighbour=IPv4Address("172.16.0.3"))
    assert {name for name, frame in lawful.items() if not wire(guest, frame)} == set()
    assert {name for name, frame in forged.items() if wire(guest, frame)} == set()


def test_a_tap_without_rules_is_mute(boot: Boot, wire: Wire) -> None:
    mute, witness = boot(2), boot(3)
    lawful, _ = lawful_and_forged(mute, neighbour=witness.slot.address)
    remove_guest_filter(vm_id_of(2))
    assert not any(wire(mute, frame, witness) for frame in lawful.values())


@pytest.mark.parametrize("nat", [False, True])
def test_guests_do_not_reach_each_other(boot: Boot, nat: bool) -> None:
    one, other = boot(2, nat=nat), boot(3, nat=nat)
    secret = udp(1, 53, b"psst")
    packet = ipv4(one.slot.address, other.slot.address, UDP, secret)
    one.send(ethernet(one.slot.mac, other.slot.mac, IP, packet))  # past the bridge
    one.send(ethernet(one.slot.mac, BROADCAST, IP, packet))
    one.send(ethernet(one.slot.mac, GATEWAY_MAC, IP, packet))  # by way of the host's routing
    one.send(
        ethernet(one.slot.mac, BROADCAST, ARP, arp(1, one.slot.mac, one.slot.address, other.slot.address))
    )
    assert not any(b"psst" in frame or one.slot.address.packed in frame for frame in all_that_reached(other))


def test_the_host_speaks_to_one_guest_without_another_hearing(boot: Boot) -> None:
    one, other = boot(2), boot(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"for one only", (str(one.slot.address), 9))
    assert b"for one only" in one.frames_until(b"for one only")[-1]
    assert not any(b"for one only" in frame for frame in all_that_reached(other))


def test_a_guest_reaches_nothing_on_the_host_but_ping_and_answers(boot: Boot) -> None:
    guest = boot(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.settimeout(DEADLINE_S)
        service.bind(("", 53))
        guest.send_ip(GATEWAY, UDP, udp(9, 53, b"unasked"))
        guest.send_ip(GATEWAY, ICMP, ping(b"are you there"))
        guest.frames_until(b"are you there")
        service.sendto(b"a question", (str(guest.slot.address), 7))
        guest.frames_until(b"a question")
        guest.send_ip(GATEWAY, UDP, udp(7, 53, b"an answer"))
        assert service.recv(100) == b"an answer"


def test_only_a_guest_with_nat_reaches_the_internet_and_under_the_hosts_address(
    boot: Boot, internet: socket.socket
) -> None:
    without, with_nat = boot(2), boot(3, nat=True)
    without.send_ip(SERVER, UDP, udp(9, 53, b"without"))
    with_nat.send_ip(SERVER, UDP, udp(9, 53, b"with"))
    received, sender = internet.recvfrom(100)
    assert (received, sender[0]) == (b"with", str(UPLINK))
    internet.sendto(b"welcome", sender)
    with_nat.frames_until(b"welcome")


def test_the_metadata_address_is_closed_to_a_guest_with_nat(boot: Boot, internet: socket.socket) -> None:
    guest = boot(2, nat=True)
    guest.send_ip(METADATA, UDP, udp(9, 53, b"credentials please"))
    guest.send_ip(SERVER, UDP, udp(9, 53, b"hello"))
    assert internet.recv(100) == b"hello"


def test_a_stranger_outside_reaches_a_guest_with_answers_only(boot: Boot, internet: socket.socket) -> None:
    guest = boot(2, nat=True)
    guest.send_ip(SERVER, UDP, udp(9, 53, b"hello"))
    _, sender = internet.recvfrom(100)
    internet.sendto(b"let me in", (str(guest.slot.address), 22))
    internet.sendto(b"an answer", sender)
    assert not any(b"let me in" in frame for frame in guest.frames_until(b"an answer"))
