"""What a guest may send, as nftables rules: its own addresses only, to the host only, further only with NAT.

Two tables named ``banger``. The bridge table has a chain for each tap, named like the tap, so that it is
found and removed by the VM's id alone; it holds everything that differs between guests, NAT included. The
inet table is the same for all: it guards the host and the ways between networks. Both are written whole in
one transaction, each time, so doing it twice changes nothing and a damaged table is mended.

IPv6 is dropped, all of it: guests get IPv4 addresses only, and router advertisements, DHCPv6 and the host's
services on ``[::]`` are then closed with one rule. DHCP falls with the source address: 0.0.0.0 is not theirs.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from banger.contracts.names import BRIDGE, NFT_TABLE, Slot, tap_name
from root_worker.shell import run, tool

_DEADLINE_S = 20.0
_LINK_LOCAL = "169.254.0.0/16"  # the clouds' metadata services live at 169.254.169.254
_MULTICAST_AND_BROADCAST = "224.0.0.0/3"
_TAPS = "bgr-*"


def apply_guest_filter(vm_id: str, slot: Slot, *, nat: bool) -> None:
    """Guard the VM's tap, which need not exist yet. ToolFailedError, with nft's words, when refused."""
    _transact(base_rules(slot) + guest_rules(vm_id, slot, nat=nat))


def remove_guest_filter(vm_id: str) -> None:
    """Remove the rules of the VM's tap; there or not."""
    _transact(removal(vm_id))


def remove_base_rules() -> None:
    """Remove both tables; there or not. For a host without guests."""
    _transact(
        [f"{verb} table {family} {NFT_TABLE}" for family in ("bridge", "inet") for verb in ("add", "delete")]
    )


def base_rules(slot: Slot) -> list[str]:
    """Return the rules that all guests of the slot's network share."""
    network = IPv4Network((slot.gateway, slot.prefix), strict=False)
    bridge, inet = f"bridge {NFT_TABLE}", f"inet {NFT_TABLE}"
    return [
        f"add table {bridge}",
        f"add map {bridge} guests {{ type ifname : verdict; }}",
        *_chain(
            f"{bridge} prerouting",
            "filter hook prerouting priority -300",  # first of all, before the bridge looks at the frame
            "iifname vmap @guests",
            f'iifname "{_TAPS}" drop',  # a tap without a chain is mute
        ),
        *_chain(
            f"{bridge} forward",
            "filter hook forward priority -200",
            f'iifname "{_TAPS}" oifname "{_TAPS}" drop',  # port isolation says the same, once more
        ),
        f"add table {inet}",
        *_chain(
            f"{inet} input",
            "filter hook input priority 0",
            f'iifname "{BRIDGE}" ct state established,related accept',  # answers to our SSH
            f'iifname "{BRIDGE}" icmp type echo-request accept',
            f'iifname "{BRIDGE}" drop',
        ),
        *_chain(
            f"{inet} forward",
            "filter hook forward priority 0",
            f'iifname "{BRIDGE}" oifname "{BRIDGE}" drop',  # guest to guest by way of the host's routing
            f'iifname "{BRIDGE}" ip daddr {_LINK_LOCAL} drop',
            f'oifname "{BRIDGE}" ct state established,related accept',
            f'oifname "{BRIDGE}" drop',
        ),
        *_chain(
            f"{inet} postrouting",
            "nat hook postrouting priority 100",
            f'ip saddr {network} oifname != "{BRIDGE}" masquerade',
        ),
    ]


def guest_rules(vm_id: str, slot: Slot, *, nat: bool) -> list[str]:
    """Return the chain of one tap: what is not accepted in it is dropped."""
    network = IPv4Network((slot.gateway, slot.prefix), strict=False)
    tap, table = tap_name(vm_id), f"bridge {NFT_TABLE}"
    rules = [
        f"ether saddr != {slot.mac} drop",
        f"arp htype 1 arp ptype ip arp saddr ether {slot.mac} arp saddr ip {slot.address} accept",
        f"ip saddr {slot.address} ip daddr {slot.gateway} accept",
    ]
    if nat:
        not_beyond = ", ".join((str(network), _LINK_LOCAL, _MULTICAST_AND_BROADCAST))
        rules.append(f"ip saddr {slot.address} ip daddr != {{ {not_beyond} }} accept")
    return [
        f"add chain {table} {tap}",
        f"flush chain {table} {tap}",
        *(f"add rule {table} {tap} {rule}" for rule in [*rules, "drop"]),
        f'add element {table} guests {{ "{tap}" : goto {tap} }}',
    ]


def removal(vm_id: str) -> list[str]:
    """Return the lines that remove a tap's chain. Each is added first, so that absence is no error."""
    tap, table = tap_name(vm_id), f"bridge {NFT_TABLE}"
    return [
        f"add table {table}",
        f"add map {table} guests {{ type ifname : verdict; }}",
        f"add chain {table} {tap}",
        f'add element {table} guests {{ "{tap}" : goto {tap} }}',
        f'delete element {table} guests {{ "{tap}" }}',
        f"flush chain {table} {tap}",
        f"delete chain {table} {tap}",
    ]


def _chain(name: str, hook: str, *rules: str) -> list[str]:
    return [
        f"add chain {name} {{ type {hook}; policy accept; }}",
        f"flush chain {name}",
        *(f"add rule {name} {rule}" for rule in rules),
    ]


def _transact(lines: list[str]) -> None:
    run((tool("nft"), "-f", "-"), deadline_s=_DEADLINE_S, stdin="\n".join([*lines, ""]).encode())
