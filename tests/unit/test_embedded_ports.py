"""A farm's ports: kept while they are free, and refused by name where another program has them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from banger.contracts.errors import ConflictError, InvalidInputError
from banger.embedded import ports
from banger.embedded.ports import Ports, choose_ports
from banger.settings import Settings

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that another program listens on."""
    monkeypatch.setattr(ports, "RELEASE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def settings(redis: int = 0, flower: int = 0, url: str | None = None) -> Settings:
    return Settings(host="here", redis_port=redis, flower_port=flower, redis_url=url)


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_ports_are_picked_once_and_kept() -> None:
    first = choose_ports(settings(), None)
    assert first.redis != first.flower
    assert choose_ports(settings(), first) == first


def test_a_kept_port_that_is_taken_by_now_is_picked_anew(taken: int) -> None:
    chosen = choose_ports(settings(), Ports(taken, free()))
    assert chosen.redis not in (0, taken)


def test_two_services_never_keep_one_port() -> None:
    port = free()
    chosen = choose_ports(settings(), Ports(port, port))
    assert chosen.redis == port
    assert chosen.flower not in (0, port)


@pytest.mark.parametrize("which", ["redis", "flower"])
def test_a_configured_port_that_is_taken_is_refused_by_its_setting(which: str, taken: int) -> None:
    with pytest.raises(ConflictError, match=rf"(?s)port {taken} .*set {which}_port to another"):
        choose_ports(settings(**{which: taken}), None)


def test_one_port_for_both_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="both 7000"):
        choose_ports(settings(7000, 7000), None)


def test_with_a_redis_elsewhere_its_port_here_is_anybodys(taken: int) -> None:
    assert choose_ports(settings(taken, url="rediss://elsewhere/0"), None).redis == taken


def test_a_port_is_waited_for_while_it_is_being_released(monkeypatch: pytest.MonkeyPatch) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(ports.time, "sleep", lambda _seconds: server.close())
    port = server.getsockname()[1]
    assert choose_ports(settings(redis=port), None).redis == port
