"""A real dnsmasq as the farm runs it, in a network of the tests' own, and the worker's files before it."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from farm_box import eventually
from farm_facts import record as record_of
from name_client import AAAA, NAME_ERROR, NO_ERROR, REFUSED, Answer, addresses, ask, reverse
from netns import inside, new_network, private_network
from pyroute2 import IPRoute

from banger.contracts.states import State
from banger.embedded import host_resolver, network
from banger.embedded.account import as_nobody
from banger.name_server import ask_mark, gateway, mark, name_server_argv
from banger.records import Record
from banger.settings import Settings
from workers.host import WorkHost
from workers.names import Names

pytestmark = pytest.mark.integration

AT_ONCE_S = 0.5


class Served:
    """A network with a name server in it, and the names that the worker writes for that."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.server = gateway(settings)
        self.names = Names(
            WorkHost(settings.host, settings.paths, settings.network, settings.uid_base, names=True)
        )

    def record(self, name: str, number: int, *, state: State = State.RUNNING) -> Record:
        address = str(self.settings.network.network_address + number)
        changes = {"name": name, "address": address, "slot": number, "state": state, "id": f"{number:012x}"}
        return record_of().model_copy(update=changes | {"host": self.settings.host})


@contextmanager
def name_server(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen(
        as_nobody("net_bind_service", name_server_argv(settings)), stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: ask_mark(gateway(settings)) == mark(settings))
        yield server
    finally:
        server.terminate()
        assert server.wait(5) == 0


@pytest.fixture(params=["172.16.0.0/24", "10.9.0.0/16"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="banger-test-", dir="/var/tmp") as directory, private_network():
        Path(directory).chmod(0o711)
        made = Settings(host="h1", state_dir=Path(directory), network=IPv4Network(request.param))
        made.paths.names.mkdir(mode=0o755)
        made.paths.vms.mkdir()
        network.ensure(made)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # the host's way to its own addresses
        with name_server(made):
            yield Served(made)


def at_once(asking: Callable[[], Answer]) -> Answer:
    began = time.monotonic()
    answer = asking()
    assert time.monotonic() - began < AT_ONCE_S
    return answer


def test_each_question_is_answered_at_once_and_only_names_of_vms_are_known(served: Served) -> None:
    server, dev = served.server, served.record("dev", 2)
    served.names.follow(dev)
    eventually(lambda: addresses("dev.vm", server) == [dev.address])
    assert at_once(lambda: ask("DEV.VM", server)) == (NO_ERROR, [dev.address])
    assert at_once(lambda: ask("dev.vm", server, AAAA)) == (NO_ERROR, [])
    assert at_once(lambda: ask("nobody.vm", server)) == (NAME_ERROR, [])
    assert at_once(lambda: ask("nobody.vm", server, AAAA)) == (NAME_ERROR, [])
    assert at_once(lambda: ask("sub.dev.vm", server)) == (NAME_ERROR, [])
    assert at_once(lambda: ask("dev", server)) == (REFUSED, [])
    assert at_once(lambda: ask("example.com", server)) == (REFUSED, [])
    assert at_once(lambda: ask("secret.tunnel.example", server)) == (REFUSED, [])
    assert at_once(lambda: reverse(str(dev.address), server)) == (NO_ERROR, ["dev.vm"])
    assert at_once(lambda: reverse(str(served.record("x", 9).address), server)) == (NAME_ERROR, [])
    assert at_once(lambda: reverse("9.9.9.9", server)) == (REFUSED, [])


def test_names_that_go_are_gone_and_addresses_are_the_next_vms(served: Served) -> None:
    server, dev = served.server, served.record("dev", 2)
    served.names.follow(dev)
    eventually(lambda: addresses("dev.vm", server))
    served.names.follow(dev.model_copy(update={"name": "renamed"}))
    eventually(lambda: addresses("renamed.vm", server) == [dev.address])
    assert ask("dev.vm", server) == (NAME_ERROR, [])
    assert reverse(str(dev.address), server).data == ["renamed.vm"]
    served.names.follow(dev.model_copy(update={"name": "renamed", "state": State.STOPPED}))
    eventually(lambda: ask("renamed.vm", server) == (NAME_ERROR, []))
    assert reverse(str(dev.address), server) == (NAME_ERROR, [])


def test_two_hundred_names_come_and_go(served: Served) -> None:
    records = [served.record(f"vm{number}", number) for number in range(2, 202)]
    for one in records:
        served.names.follow(one)
    for one in records:
        eventually(lambda one=one: addresses(f"{one.name}.vm", served.server) == [one.address])
    served.names.settle({}, lambda _: None)
    for one in records:
        eventually(lambda one=one: ask(f"{one.name}.vm", served.server).code == NAME_ERROR)


def test_a_name_server_that_comes_later_knows_what_is_there(served: Served) -> None:
    dev, other = served.record("dev", 2), IPv4Address("127.0.0.1")
    served.names.follow(dev)
    argv = [word.replace(str(served.server), str(other)) for word in name_server_argv(served.settings)]
    with subprocess.Popen(as_nobody("net_bind_service", tuple(argv)), stderr=subprocess.DEVNULL) as late:
        eventually(lambda: ask_mark(other))
        assert addresses("dev.vm", other) == [dev.address]
        late.terminate()


def test_it_outlives_the_bridge(served: Served) -> None:
    dev = served.record("dev", 2)
    served.names.follow(dev)
    network.remove_if_unused(served.settings)
    network.ensure(served.settings)
    eventually(lambda: addresses("dev.vm", served.server) == [dev.address])


def test_a_neighbour_with_a_route_to_the_gateway_is_not_answered(served: Served) -> None:
    dev = served.record("dev", 2)
    served.names.follow(dev)
    eventually(lambda: addresses("dev.vm", served.server) == [dev.address])
    with new_network() as outside, IPRoute() as ip:
        ip.link("add", ifname="lan", kind="veth", peer={"ifname": "out", "net_ns_fd": outside})
        subprocess.run("ip addr add 198.51.100.1/24 dev lan && ip link set lan up", shell=True, check=True)
        with inside(outside):
            for words in (
                "addr add 198.51.100.2/24 dev out",
                "link set out up",
                f"route add {served.server} via 198.51.100.1",
            ):
                subprocess.run(["ip", *words.split()], check=True)
            with pytest.raises(ConnectionRefusedError):
                ask("dev.vm", served.server)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((str(served.server), 53), timeout=2)
    assert addresses("dev.vm", served.server) == [dev.address]


def test_whoever_has_the_address_elsewhere_is_not_asked() -> None:
    with private_network():
        links = ("set lo up", "add lan up type veth peer name out", "set out up")
        for words in (*(f"link {words}" for words in links), "route add default dev lan"):
            subprocess.run(["ip", *words.split()], check=True)
        began = time.monotonic()
        assert ask_mark(IPv4Address("172.16.0.1")) is None
        assert time.monotonic() - began < AT_ONCE_S


def test_another_networks_resolver_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It knows links by their numbers, and ours are others in a network of our own."""
    monkeypatch.setattr(host_resolver, "RESOLVED", tmp_path)
    monkeypatch.setattr(host_resolver, "find_tool", lambda _: "/bin/true")
    with private_network():
        assert not host_resolver.introduce(IPv4Address("172.16.0.1"))


RESOLVECTL = """#!/bin/sh
echo "$*" >>"$0.told"
case "$*" in
    "dns bgr0") echo "Link 7 (bgr0): $(cat "$0.dns")" ;;
    "domain bgr0") echo "Link 7 (bgr0): ~vm" ;;
esac
"""


@pytest.fixture
def resolvectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands in for the machine's own; beside it, what it was told, and the server that it tells."""
    made = tmp_path / "resolvectl"
    made.write_text(RESOLVECTL)
    made.chmod(0o755)
    monkeypatch.setattr(host_resolver, "RESOLVED", tmp_path)
    monkeypatch.setattr(host_resolver, "find_tool", lambda _: str(made))
    monkeypatch.setattr(host_resolver, "_is_the_machines", lambda: True)
    return made


@pytest.mark.parametrize(
    ("stands", "becomes"), [("172.16.0.1", ["revert bgr0"]), ("172.16.0.1 9.9.9.9", []), ("", [])]
)
def test_a_resolver_is_told_to_forget_a_network_without_names(
    resolvectl: Path, stands: str, becomes: list[str]
) -> None:
    resolvectl.with_suffix(".dns").write_text(stands)
    with private_network():
        network.ensure(Settings(host="h1", names=False))
    told = resolvectl.with_suffix(".told").read_text().splitlines()
    assert [line for line in told if len(line.split()) > 2 or line.startswith("revert")] == becomes


def test_nor_is_it_told_of_a_name_server_that_is_not_installed(
    resolvectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolvectl.with_suffix(".dns").write_text("172.16.0.1")
    monkeypatch.setattr("banger.name_server.installed", lambda: False)
    with private_network():
        network.ensure(Settings(host="h1"))
    assert resolvectl.with_suffix(".told").read_text().splitlines()[-1] == "revert bgr0"


def test_the_machines_resolver_is_told_of_one_domain_and_is_nobodys_default() -> None:
    assert host_resolver.commands(IPv4Address("172.16.0.1")) == (
        ("dns", "bgr0", "172.16.0.1"),
        ("domain", "bgr0", "~vm"),
        ("default-route", "bgr0", "no"),
        ("dnssec", "bgr0", "no"),
    )
