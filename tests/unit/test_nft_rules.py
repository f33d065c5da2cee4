"""The guest filter as text: what it names, what NAT adds, what a removal needs."""

from __future__ import annotations

from ipaddress import IPv4Network

from banger.contracts.guest_filter import base_removal, base_rules, guest_removal, guest_rules
from banger.contracts.names import slot, tap_name

VM = "0123456789ab"
NETWORK = IPv4Network("172.16.0.0/24")
SLOT = slot(5, NETWORK, 300_000)


def test_every_line_stays_within_our_two_tables() -> None:
    shared, own = base_rules(NETWORK) + base_removal(), guest_rules(VM, SLOT, nat=True) + guest_removal(VM)
    for line in shared + own:
        words = line.split()
        assert words[0] in {"add", "delete", "flush"}
        assert words[2:4] in (["bridge", "banger"], ["inet", "banger"]), line


def test_rules_are_flushed_before_they_are_added() -> None:
    lines = base_rules(NETWORK) + guest_rules(VM, SLOT, nat=False)
    for line in lines:
        if line.startswith("add rule"):
            chain = " ".join(line.split()[2:5])
            assert lines.index(f"flush chain {chain}") < lines.index(line)


def test_a_guests_chain_ends_in_drop() -> None:
    for nat in (False, True):
        rules = [line for line in guest_rules(VM, SLOT, nat=nat) if line.startswith("add rule")]
        assert rules[-1].endswith(f"{tap_name(VM)} drop")


def test_nat_adds_one_rule_to_the_guests_own_chain_and_nothing_else() -> None:
    without, with_nat = guest_rules(VM, SLOT, nat=False), guest_rules(VM, SLOT, nat=True)
    (added,) = set(with_nat) - set(without)
    assert set(without) < set(with_nat)
    assert added.startswith(f"add rule bridge banger {tap_name(VM)} ip daddr != 172.16.0.0/24 ip daddr != ")


def test_removal_knows_the_id_alone() -> None:
    text = "\n".join(guest_removal(VM))
    assert tap_name(VM) in text
    assert str(SLOT.address) not in text
    assert SLOT.mac not in text
