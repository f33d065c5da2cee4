"""What a guest may send, as nftables text: frames of its own, to the gateway alone, further only with NAT.

Two tables named ``banger``. The bridge table has a chain for each tap, named like the tap, so that it is
found and removed by the VM's id alone; it holds everything that differs between guests, NAT included. The
inet table guards the host and the ways between networks, for all guests alike. What all share is made once
(``base_rules``, by the farm's start), a guest's chain with its tap (``guest_rules``, by root).

What is not known to be harmless is dropped. IPv6 is: guests get IPv4 addresses only, and router
advertisements, DHCPv6 and the host's services on ``[::]`` are closed with it. So is DHCP, in both roles: its
client has no address to send from, and its server nobody whom it could reach.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network

from banger.contracts.names import BRIDGE, NFT_TABLE, TAP_PREFIX, Slot, mac_address, tap_name

# Where clouds answer whoever asks with the host's own secrets, and what else no router should carry.
NOWHERE = (
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local, with most clouds' metadata at 169.254.169.254
    "100.100.100.200",  # Alibaba's
    "168.63.129.16",  # Azure's
    "192.0.0.192",  # Oracle's
    "224.0.0.0/3",  # multicast, reserved, broadcast
)
# One guest's share of the host's connection table, which has 65,536 places on a small host.
MAX_FLOWS = 4096

_BRIDGE_TABLE = f"bridge {NFT_TABLE}"
_INET_TABLE = f"inet {NFT_TABLE}"
_TAPS = f"{TAP_PREFIX}*"
_GUESTS = f"add map {_BRIDGE_TABLE} guests {{ type ifname : verdict; }}"


def script(lines: Iterable[str]) -> bytes:
    """Return the lines as ``nft -f -`` reads them: one transaction, all of it or nothing."""
    return "\n".join([*lines, ""]).encode()


def base_rules(network: IPv4Network) -> list[str]:
    """Return the lines that make, or make anew, what all guests share; the chains of guests stay."""
    gateway = network.network_address + 1
    nowhere = ", ".join(NOWHERE)
    names = f"ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53"
    return [
        f"add table {_BRIDGE_TABLE}",
        _GUESTS,
        *_chain(
            f"{_BRIDGE_TABLE} prerouting",
            "filter hook prerouting priority -300",  # first of all, before the bridge looks at the frame
            "iifname vmap @guests",
            f'iifname "{_TAPS}" drop',  # a tap without a chain is mute
        ),
        *_chain(
            f"{_BRIDGE_TABLE} forward",
            "filter hook forward priority -200",
            f'iifname "{_TAPS}" oifname "{_TAPS}" drop',  # port isolation says the same, once more
        ),
        *(f"{verb} table {_INET_TABLE}" for verb in ("add", "delete", "add")),
        f"add set {_INET_TABLE} flows {{ type ipv4_addr; size 65536; flags dynamic; }}",
        *_chain(
            f"{_INET_TABLE} host",  # what a guest may ask of the host
            None,
            "ct state established,related accept",  # answers to our SSH
            f"ip daddr {gateway} icmp type echo-request accept",
            f"{names} accept",
            "drop",
        ),
        *_chain(
            f"{_INET_TABLE} prerouting",
            "filter hook prerouting priority -150",  # before others' DNAT: a published port is a service too
            f'iifname "{_TAPS}" drop',  # it came past the bridge, and so past the guest's chain
            f'iifname "{BRIDGE}" ct state new add @flows {{ ip saddr ct count over {MAX_FLOWS} }} drop',
            f'iifname "{BRIDGE}" fib daddr type != unicast goto host',  # the host's every address
        ),
        *_chain(
            f"{_INET_TABLE} input",
            "filter hook input priority 0",
            f'iifname "{BRIDGE}" goto host',
            f'iifname != "lo" {names} reject',  # VMs' names are no business of who has a route to here
        ),
        *_chain(
            f"{_INET_TABLE} forward",
            "filter hook forward priority 0",
            f'iifname "{BRIDGE}" oifname "{BRIDGE}" drop',  # guest to guest by way of the host's routing
            f'iifname "{BRIDGE}" ip daddr {{ {nowhere} }} drop',
            f'oifname "{BRIDGE}" ct state established,related accept',
            f'oifname "{BRIDGE}" drop',
        ),
        *_chain(
            f"{_INET_TABLE} postrouting",
            "nat hook postrouting priority 100",
            # Not the host's word to itself, which has the gateway's address when it is for the name server.
            f'ip saddr {network} oifname != {{ "lo", "{BRIDGE}" }} masquerade',
        ),
    ]


def base_removal() -> list[str]:
    """Return the lines that remove both tables. Each is added first, so that absence is no error."""
    return [f"{verb} table {table}" for table in (_BRIDGE_TABLE, _INET_TABLE) for verb in ("add", "delete")]


def guest_rules(vm_id: str, slot: Slot, *, nat: bool) -> list[str]:
    """Return the lines that make one tap's chain; nft refuses them where the shared tables are missing."""
    network = IPv4Network((slot.gateway, slot.prefix), strict=False)
    rules = [
        f"ether saddr != {slot.mac} drop",
        "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
        f"arp saddr ether {slot.mac} arp saddr ip {slot.address} arp daddr ip {slot.gateway} accept",
        "ether type != ip drop",  # asks the frame, where ``ip saddr`` alone would see through a VLAN tag
        f"ether daddr != {mac_address(slot.gateway)} drop",
        "ip hdrlength != 5 drop",  # options, source routes among them
        "ip frag-off & 0x3fff != 0 drop",  # fragments, which the host would have to keep and put together
        f"ip saddr != {slot.address} drop",
        f"ip daddr {slot.gateway} accept",
        *([f"ip daddr != {network} ip daddr != {{ {', '.join(NOWHERE)} }} accept"] if nat else []),
        "drop",
    ]
    chain = f"{_BRIDGE_TABLE} {tap_name(vm_id)}"
    return [
        f"add chain {_INET_TABLE} input",  # there already, and so nothing; but no table, no guest
        f"add chain {chain}",
        f"flush chain {chain}",
        *(f"add rule {chain} {rule}" for rule in rules),
        f'add element {_BRIDGE_TABLE} guests {{ "{tap_name(vm_id)}" : goto {tap_name(vm_id)} }}',
    ]


def guest_removal(vm_id: str) -> list[str]:
    """Return the lines that remove a tap's chain. Each is added first, so that absence is no error."""
    tap = tap_name(vm_id)
    return [
        f"add table {_BRIDGE_TABLE}",
        _GUESTS,
        f"add chain {_BRIDGE_TABLE} {tap}",
        f'add element {_BRIDGE_TABLE} guests {{ "{tap}" : goto {tap} }}',
        f'delete element {_BRIDGE_TABLE} guests {{ "{tap}" }}',
        f"flush chain {_BRIDGE_TABLE} {tap}",
        f"delete chain {_BRIDGE_TABLE} {tap}",
    ]


def _chain(name: str, hook: str | None, *rules: str) -> list[str]:
    return [
        f"add chain {name}" + (f" {{ type {hook}; policy accept; }}" if hook else ""),
        f"flush chain {name}",
        *(f"add rule {name} {rule}" for rule in rules),
    ]
