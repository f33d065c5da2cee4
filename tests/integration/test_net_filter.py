"""What a guest can and cannot send, proven with real frames through a real bridge.

Each attack is tried twice: with the guard, where it comes to nothing, and without, where it works.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from fake_guest import BROADCAST, DEADLINE_S, FakeGuest, arp, ethernet, ipv4, ping, udp
from netns import inside, new_network
from pyroute2 import IPRoute
from unguarded import lift_the_guard

from banger.contracts.guest_filter import MAX_FLOWS
from banger.contracts.names import BRIDGE, mac_address, tap_name
from banger.contracts.policy import Policy
from banger.contracts.requests import TapRequest
from banger.embedded import network
from banger.settings import Settings
from root_worker.host import RootHost, root_host
from root_worker.ops.guest_network import remove_guest_filter
from root_worker.stages import tap

pytestmark = pytest.mark.integration

SETTINGS = Settings(host="here")
GATEWAY = IPv4Address("172.16.0.1")
GATEWAY_MAC = mac_address(GATEWAY)
UPLINK = IPv4Address("198.51.100.1")  # the host's address on the way out
SERVER = IPv4Address("198.51.100.2")  # somebody on the internet
METADATA = IPv4Address("169.254.169.254")
LOOPBACK = IPv4Address("127.0.0.1")
LLDP = "01:80:c2:00:00:0e"  # the bridge hands frames to it on to the host, as from the tap itself
UDP, ICMP = 17, 1
SO_RCVBUFFORCE = 33
NUD_NOARP = 0x40
IP, ARP, IPV6, VLAN, QINQ = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8
DNS, SERVICE, PUBLISHED = 53, 7777, 8080

Boot = Callable[..., FakeGuest]
Landed = Callable[[FakeGuest, Callable[[bytes], bytes]], bool]
Heard = Callable[[FakeGuest, list[bytes]], set[bytes]]


@pytest.fixture
def here() -> Iterator[int]:
    """Put the test into a network namespace of its own and yield its descriptor."""
    with new_network() as namespace, inside(namespace):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield namespace


@pytest.fixture
def host(here: int, tmp_path: Path) -> RootHost:
    network.ensure(SETTINGS)
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
def landed(here: int, boot: Boot) -> Iterator[Landed]:
    """Return a question: does this frame, given a payload, reach the bridge's own stack or a neighbour?"""
    witness = boot(9)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tapped:
        tapped.settimeout(DEADLINE_S)
        tapped.bind((BRIDGE, 0x0003))

        def ask(guest: FakeGuest, frame: Callable[[bytes], bytes]) -> bool:
            marker, end = secrets.token_bytes(8), secrets.token_bytes(8)
            guest.send(frame(marker))
            witness.send_ip(GATEWAY, ICMP, ping(end))
            seen = []
            while end not in (received := tapped.recv(65536)):
                seen.append(received)
            return any(marker in frame for frame in seen + all_that_reached(witness))

        yield ask


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
            be_careless("out")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
                server.settimeout(DEADLINE_S)
                server.bind(("", DNS))
                with inside(here):
                    yield server


@pytest.fixture
def heard(host: RootHost, internet: socket.socket) -> Iterator[Heard]:
    """Return a question: what do the host's services, or the internet, hear of these frames?"""
    with contextlib.ExitStack() as open_sockets:
        services = [internet]
        for port in (DNS, SERVICE):
            services.append(open_sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            services[-1].bind(("", port))
        be_careless(BRIDGE)
        publish = f"udp dport {PUBLISHED} dnat ip to {SERVER}:{DNS}"
        for line in (
            "add table inet theirs",
            "add chain inet theirs prerouting { type nat hook prerouting priority -100; }",
            f"add rule inet theirs prerouting ip daddr {UPLINK} {publish}",
        ):
            subprocess.run(["nft", line], check=True)

        def listen(guest: FakeGuest, frames: list[bytes]) -> set[bytes]:
            for frame in frames:
                guest.send(frame)
            ends = {secrets.token_hex(8).encode(): target for target in (GATEWAY, SERVER)}
            for end, target in ends.items():
                guest.send_ip(target, UDP, udp(6, DNS, end))
            words: set[bytes] = set()
            while not ends.keys() <= words:
                ready, _, _ = select.select(services, [], [], DEADLINE_S)
                assert ready, words
                words |= {service.recv(2000).strip(b".") for service in ready}
            return words - ends.keys()

        yield listen


def be_careless(interface: str) -> None:
    """Have this namespace believe what its kernel can be told to believe."""
    for switch in ("route_localnet", "accept_source_route"):
        for where in ("all", interface):
            Path("/proc/sys/net/ipv4/conf", where, switch).write_text("1")


def address(ip: IPRoute, name: str, value: IPv4Address, prefix: int) -> None:
    (index,) = ip.link_lookup(ifname=name)
    ip.addr("add", index=index, address=str(value), prefixlen=prefix)
    ip.link("set", index=index, state="up")


def all_that_reached(guest: FakeGuest) -> list[bytes]:
    """Return the frames that have reached a guest, up to one that the host sends now."""
    last = secrets.token_bytes(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(last, (str(guest.slot.address), 9))
    return guest.frames_until(last)


Frames = dict[str, Callable[[bytes], bytes]]


def lawful(guest: FakeGuest) -> Frames:
    """Return frames that a guest may send, by what they are; each is given its payload."""
    own, mac = guest.slot.address, guest.slot.mac
    to_dns = lambda said: ipv4(own, GATEWAY, UDP, udp(5, DNS, said))  # noqa: E731
    return {
        "own MAC and address": lambda said: ethernet(mac, GATEWAY_MAC, IP, to_dns(said)),
        "own ARP to all": lambda said: ethernet(mac, BROADCAST, ARP, arp(1, mac, own, GATEWAY) + said),
        "own ARP to the host": lambda said: ethernet(mac, GATEWAY_MAC, ARP, arp(2, mac, own, GATEWAY) + said),
    }


def forged(guest: FakeGuest, neighbour: IPv4Address) -> Frames:
    """Return frames that no guest may send, by what they are; each is given its payload."""
    own, mac = guest.slot.address, guest.slot.mac
    theirs = mac_address(neighbour)
    nobody, everybody = IPv4Address("0.0.0.0"), IPv4Address("255.255.255.255")

    def to_host(kind: int, payload: bytes) -> bytes:
        return ethernet(mac, GATEWAY_MAC, kind, payload)

    def to_all(kind: int, payload: bytes) -> bytes:
        return ethernet(mac, BROADCAST, kind, payload)

    def packet(said: bytes, source: IPv4Address = own, target: IPv4Address = GATEWAY) -> bytes:
        return ipv4(source, target, UDP, udp(5, DNS, said))  # which the host would hear, were it lawful

    def answer(said: bytes, as_mac: str, as_address: IPv4Address, to: IPv4Address = GATEWAY) -> bytes:
        return arp(2, as_mac, as_address, to) + said

    return {
        "MAC of another": lambda said: ethernet(mac_address(neighbour + 1), GATEWAY_MAC, IP, packet(said)),
        "MAC of the gateway": lambda said: ethernet(GATEWAY_MAC, BROADCAST, IP, packet(said)),
        "address of another": lambda said: to_host(IP, packet(said, neighbour)),
        "address of the gateway": lambda said: to_host(IP, packet(said, GATEWAY)),
        "address of the internet": lambda said: to_host(IP, packet(said, SERVER)),
        "address of loopback": lambda said: to_host(IP, packet(said, LOOPBACK)),
        "to a neighbour": lambda said: ethernet(mac, theirs, IP, packet(said, target=neighbour)),
        "to a neighbour, as to all": lambda said: to_all(IP, packet(said, target=neighbour)),
        "to the host, as to all": lambda said: to_all(IP, packet(said)),
        "to a neighbour, under the host's address": lambda said: ethernet(mac, theirs, IP, packet(said)),
        "to all addresses": lambda said: to_all(IP, packet(said, target=everybody)),
        "multicast": lambda said: ethernet(
            mac, "01:00:5e:00:00:fb", IP, packet(said, target=IPv4Address("224.0.0.251"))
        ),
        "DHCP client": lambda said: to_all(IP, ipv4(nobody, everybody, UDP, udp(68, 67, said))),
        "DHCP server": lambda said: to_all(IP, ipv4(own, everybody, UDP, udp(67, 68, said))),
        "ARP as the gateway": lambda said: to_all(ARP, answer(said, mac, GATEWAY, own)),
        "ARP as the gateway, to a neighbour": lambda said: ethernet(
            mac, theirs, ARP, answer(said, mac, GATEWAY, neighbour)
        ),
        "ARP as another": lambda said: to_host(ARP, answer(said, mac, neighbour)),
        "ARP as another, unasked": lambda said: to_all(ARP, answer(said, mac, neighbour, neighbour)),
        "ARP with the MAC of another": lambda said: to_all(ARP, answer(said, theirs, own)),
        "ARP for a neighbour": lambda said: to_all(ARP, arp(1, mac, own, neighbour) + said),
        "router advertisement": lambda said: ethernet(mac, "33:33:00:00:00:01", IPV6, advertisement(said)),
        "VLAN tag": lambda said: to_host(VLAN, b"\x00\x07\x08\x00" + packet(said)),
        "VLAN tag for priority only": lambda said: to_host(VLAN, b"\x00\x00\x08\x00" + packet(said)),
        "two VLAN tags": lambda said: to_host(QINQ, b"\x00\x07\x81\x00\x00\x07\x08\x00" + packet(said)),
        "ARP in a VLAN": lambda said: to_all(VLAN, b"\x00\x07\x08\x06" + answer(said, mac, GATEWAY)),
        "unknown protocol": lambda said: to_all(0x88B5, said),
        "spanning tree": lambda said: ethernet(mac, "01:80:c2:00:00:00", 0x0026, said),
    }


def advertisement(said: bytes) -> bytes:
    link_local, all_nodes = IPv6Address("fe80::1"), IPv6Address("ff02::1")
    body = b"\x86\x00" + bytes(14) + said
    header = b"\x60" + bytes(3) + len(body).to_bytes(2, "big") + b"\x3a\xff"
    return header + link_local.packed + all_nodes.packed + body


def fragment(packet: bytes, offset: int, *, more: bool) -> bytes:
    """Return the packet as a fragment at an offset (multiple of 8 bytes); its checksum is made new."""
    field = struct.pack("!H", offset // 8 | (0x2000 if more else 0))
    (old,), (flags,) = struct.unpack("!H", packet[10:12]), struct.unpack("!H", field)
    total = (~old & 0xFFFF) + flags
    new = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return packet[:6] + field + packet[8:10] + struct.pack("!H", new) + packet[12:]


def in_fragments(own: IPv4Address, said: bytes) -> tuple[bytes, ...]:
    whole = udp(5, DNS, said.ljust(24, b"."))
    return (
        fragment(ipv4(own, GATEWAY, UDP, whole[:16]), 0, more=True),
        fragment(ipv4(own, GATEWAY, UDP, whole[16:]), 16, more=False),
    )


def source_routed(own: IPv4Address, said: bytes) -> bytes:
    """Return a packet to the gateway that asks it to go on to SERVER (RFC 791, loose source route)."""
    options = b"\x83\x07\x04" + SERVER.packed + b"\x01"
    payload = udp(5, DNS, said)
    plain = ipv4(own, GATEWAY, UDP, options + payload)
    header = bytearray(plain[:20] + options)
    header[0], header[10:12] = 0x47, b"\0\0"
    total = sum(struct.unpack("!14H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header[10:12] = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    return bytes(header) + payload


def reaching(guest: FakeGuest) -> dict[str, list[bytes]]:
    """Return frames that would have something of the host's, or beyond it, hear the word ``psst``."""
    own = guest.slot.address

    def to(target: IPv4Address, port: int, mac: str = GATEWAY_MAC) -> list[bytes]:
        return [ethernet(guest.slot.mac, mac, IP, ipv4(own, target, UDP, udp(5, port, b"psst")))]

    return {
        "a service on the gateway's address": to(GATEWAY, SERVICE),
        "a service on another of the host's addresses": to(UPLINK, SERVICE),
        "DNS on another of the host's addresses": to(UPLINK, DNS),
        "a service on loopback": to(LOOPBACK, SERVICE),
        "a service, as to all": to(GATEWAY, SERVICE, BROADCAST),
        "a service, past the bridge": to(GATEWAY, SERVICE, LLDP),
        "a service of another address, past the bridge": to(UPLINK, SERVICE, LLDP),
        "a service of all, in the host's other network": to(IPv4Address("198.51.100.255"), SERVICE),
        "a port that the host publishes for another": to(UPLINK, PUBLISHED),
        "metadata": to(METADATA, DNS),
        "the internet, source-routed": [
            ethernet(guest.slot.mac, GATEWAY_MAC, IP, source_routed(own, b"psst"))
        ],
        "DNS, in fragments": [
            ethernet(guest.slot.mac, GATEWAY_MAC, IP, part)[: 14 + len(part)]
            for part in in_fragments(own, b"psst")
        ],
    }


REACHING = (
    "a service on the gateway's address",
    "a service on another of the host's addresses",
    "DNS on another of the host's addresses",
    "a service on loopback",
    "a service, as to all",
    "a service, past the bridge",
    "a service of another address, past the bridge",
    "a service of all, in the host's other network",
    "a port that the host publishes for another",
    "metadata",
    "the internet, source-routed",
    "DNS, in fragments",
)


def test_only_the_guests_own_frames_get_past_its_port(boot: Boot, landed: Landed) -> None:
    guest, neighbour = boot(2, nat=True), IPv4Address("172.16.0.9")
    bad = forged(guest, neighbour)
    assert {name for name, frame in lawful(guest).items() if not landed(guest, frame)} == set()
    assert {name for name, frame in bad.items() if landed(guest, frame)} == set()
    lift_the_guard(vm_id_of(2))
    assert {name for name, frame in bad.items() if not landed(guest, frame)} == set()


def test_a_tap_without_rules_is_mute(boot: Boot, landed: Landed) -> None:
    mute = boot(2)
    remove_guest_filter(vm_id_of(2))
    assert not any(landed(mute, frame) for frame in lawful(mute).values())


@pytest.mark.parametrize("name", REACHING)
def test_a_guest_with_nat_does_not_reach(boot: Boot, heard: Heard, name: str) -> None:
    guest = boot(2, nat=True)
    assert heard(guest, reaching(guest)[name]) == set()
    lift_the_guard(vm_id_of(2))
    assert heard(guest, reaching(guest)[name]) == {b"psst"}


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


def test_a_vmm_that_gives_its_tap_a_neighbours_mac_hears_nothing_of_the_neighbours(boot: Boot) -> None:
    early, thief = boot(2), boot(4)
    early.rename_tap(mac_address(IPv4Address("172.16.0.3")))  # before there is one
    victim = boot(3)
    thief.rename_tap(victim.slot.mac)
    assert not any(marked_for(victim) in frame for frame in all_that_reached(thief))
    assert not any(marked_for(victim) in frame for frame in all_that_reached(early))
    with IPRoute() as ip:  # what a bridge knows of its ports otherwise
        (port,) = ip.link_lookup(ifname=tap_name(vm_id_of(3)))
        ip.fdb("replace", ifindex=port, lladdr=victim.slot.mac, state=NUD_NOARP)
    thief.rename_tap(mac_address(SERVER))
    thief.rename_tap(victim.slot.mac)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"for one only", (str(victim.slot.address), 9))
    thief.frames_until(b"for one only")


def marked_for(victim: FakeGuest) -> bytes:
    """Have the host say something to a guest, which hears it, and return what was said."""
    said = secrets.token_bytes(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(said, (str(victim.slot.address), 9))
    victim.frames_until(said)
    return said


def test_a_guest_reaches_dns_and_ping_on_the_host_and_answers_it(boot: Boot) -> None:
    guest = boot(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.settimeout(DEADLINE_S)
        service.bind(("", SERVICE))
        guest.send_ip(GATEWAY, UDP, udp(9, SERVICE, b"unasked"))
        guest.send_ip(GATEWAY, ICMP, ping(b"are you there"))
        guest.frames_until(b"are you there")
        service.sendto(b"a question", (str(guest.slot.address), 7))
        guest.frames_until(b"a question")
        guest.send_ip(GATEWAY, UDP, udp(7, SERVICE, b"an answer"))
        assert service.recv(100) == b"an answer"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
        dns.settimeout(DEADLINE_S)
        dns.bind(("", DNS))
        guest.send_ip(GATEWAY, UDP, udp(9, DNS, b"a name"))
        name, asker = dns.recvfrom(100)
        dns.sendto(name + b" is known", asker)
        guest.frames_until(b"a name is known")


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


def test_one_guest_cannot_fill_the_hosts_connection_table(boot: Boot, internet: socket.socket) -> None:
    greedy, modest = boot(2, nat=True), boot(3, nat=True)
    internet.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 2**24)
    for port in range(1000, 1000 + MAX_FLOWS + 100):
        greedy.send_ip(SERVER, UDP, udp(port, DNS, b"one more"))
    modest.send_ip(SERVER, UDP, udp(9, DNS, b"just one"))
    heard = 0
    while internet.recv(100) != b"just one":
        heard += 1
    assert heard == MAX_FLOWS


def test_a_stranger_outside_reaches_a_guest_with_answers_only(boot: Boot, internet: socket.socket) -> None:
    guest = boot(2, nat=True)
    guest.send_ip(SERVER, UDP, udp(9, 53, b"hello"))
    _, sender = internet.recvfrom(100)
    internet.sendto(b"let me in", (str(guest.slot.address), 22))
    internet.sendto(b"an answer", sender)
    assert not any(b"let me in" in frame for frame in guest.frames_until(b"an answer"))
