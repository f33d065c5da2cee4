"""What guests reach and find on an installed host: the world outside with NAT alone, and names of VMs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from farm_box import eventually

from lab.farm import found
from lab.machine import Machine

pytestmark = pytest.mark.lab

GATEWAY = "172.16.0.1"
# Documentation's addresses (RFC 5737): the host's on the way out, and a server's beyond it.
HOST_OUTSIDE, SERVER = "198.51.100.1", "198.51.100.2"
GREETING = "hello from outside"
_BOOT_S = 300.0
_LONG_S = 120.0

OUTSIDE = f"""
ip netns add outside
ip link add uplink type veth peer name out netns outside
ip addr add {HOST_OUTSIDE}/24 dev uplink
ip link set uplink up
ip netns exec outside ip addr add {SERVER}/24 dev out
ip netns exec outside ip link set out up
install -d /run/outside
echo '{GREETING}' > /run/outside/hello
systemd-run --quiet --unit=outside --property=NetworkNamespacePath=/run/netns/outside \\
    python3 -m http.server --bind {SERVER} --directory /run/outside 8000
until (exec 3<>/dev/tcp/{SERVER}/8000) 2>/dev/null; do sleep 0.2; done
"""
NO_OUTSIDE = """
systemctl stop outside 2>/dev/null || true
ip netns del outside || true
ip link del uplink 2>/dev/null || true
rm -rf /run/outside
"""
# busybox' wget needs name services that a static one lacks; what it would send is one line.
ASK = "printf 'GET /hello HTTP/1.0\\r\\n\\r\\n' | timeout {0} nc -w {0} " + f"{SERVER} 8000"


@pytest.fixture(scope="module")
def host(lab: Machine) -> Iterator[Machine]:
    """The host with a server outside, a guest that may go there, ``outgoing``, and one that may not."""
    try:
        lab.run(OUTSIDE, deadline_s=_LONG_S)
        lab.run(
            "banger vm create outgoing --image micro --nat --quiet &\n"
            "banger vm create homely --image micro --quiet\nwait $!",
            deadline_s=_BOOT_S,
        )
        yield lab
    finally:
        lab.try_run("banger vm delete outgoing homely", deadline_s=_LONG_S)
        lab.try_run(NO_OUTSIDE)


def in_guest(host: Machine, name: str, script: str) -> str:
    """Return what a script in a guest prints, however it ends."""
    return host.try_run(f"banger vm exec {name} -- sh -c {shlex.quote(script)}", deadline_s=_LONG_S).out


@pytest.fixture(scope="module")
def addresses(host: Machine) -> dict[str, str]:
    """The guests' addresses, by name."""
    records: list[dict[str, Any]] = host.json("banger vm list --json")
    return {record["name"]: record["address"] for record in records}


# --- NAT --------------------------------------------------------------------------------------------


def test_a_guest_with_nat_reaches_a_server_outside_and_is_seen_as_its_host(
    host: Machine, addresses: dict[str, str]
) -> None:
    assert GREETING in in_guest(host, "outgoing", ASK.format(20))
    seen = host.run("journalctl --unit=outside --output=cat")
    assert HOST_OUTSIDE in seen
    assert addresses["outgoing"] not in seen


def test_a_guest_without_nat_reaches_its_gateway_and_nothing_outside(host: Machine) -> None:
    pings = "".join(f"ping -c 1 -W 5 {address}; " for address in (GATEWAY, SERVER))
    said = in_guest(host, "homely", f"{pings}{ASK.format(5)}")
    assert (said.count("1 packets received"), said.count("0 packets received")) == (1, 1)
    assert GREETING not in said


# --- names ------------------------------------------------------------------------------------------


def test_the_host_and_both_guests_find_both_names(host: Machine, addresses: dict[str, str]) -> None:
    both = "nslookup outgoing.vm; nslookup homely.vm"
    for asking in ("outgoing", "homely"):
        said = in_guest(host, asking, both)
        for name in ("outgoing", "homely"):
            assert f"Name:\t{name}.vm\nAddress: {addresses[name]}\n" in said
    for name in ("outgoing", "homely"):
        assert found(host, name) == addresses[name]


def test_the_hosts_resolver_asks_the_farms_for_vm_alone(host: Machine) -> None:
    assert GATEWAY in host.run("resolvectl dns bgr0")
    assert "~vm" in host.run("resolvectl domain bgr0")
    assert "no" in host.run("resolvectl default-route bgr0")


@pytest.mark.parametrize("unit", ["banger-dns", "systemd-resolved"])
def test_names_are_there_again_after_a_restart(host: Machine, addresses: dict[str, str], unit: str) -> None:
    host.run(f"systemctl kill --signal=KILL {unit}; systemctl restart {unit}", deadline_s=_LONG_S)
    eventually(lambda: found(host, "outgoing") == addresses["outgoing"], _LONG_S)


def test_the_name_server_has_one_capability_and_little_exposure(host: Machine) -> None:
    said = host.run("cat /proc/$(systemctl show --value --property=MainPID banger-dns)/status")
    status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert host.run(f"id -nu {status['Uid'].split()[0]}").strip() == "banger-dns"
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {f"{1 << 10:016x}"}
    host.run("systemd-analyze security --no-pager --threshold=35 banger-dns >/dev/null")


def test_names_go_with_a_kill_and_with_a_delete(host: Machine) -> None:
    host.run("banger vm kill homely", deadline_s=_LONG_S)
    assert found(host, "homely") == ""
    host.run("banger vm delete outgoing", deadline_s=_LONG_S)
    assert found(host, "outgoing") == ""
