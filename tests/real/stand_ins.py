"""Servers for guests to try: the host's services, and the world outside, with metadata."""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

from netns import inside, new_network

LAN = "198.51.100.1"  # the host's address on the way out
INTERNET = "198.51.100.2"
METADATA = "169.254.169.254"
DNS, SERVICE, HTTP = 53, 7777, 80


@contextlib.contextmanager
def outside_world(here: int) -> Iterator[None]:
    """Give a namespace an uplink to INTERNET and METADATA, and let all of them answer whoever asks."""
    with contextlib.ExitStack() as opened, new_network() as there:
        _tool("ip", "link", "add", "uplink", "type", "veth", "peer", "out")
        opened.callback(_tool, "ip", "link", "del", "uplink")
        _tool("ip", "link", "set", "out", "netns", f"/proc/self/fd/{there}", pass_fds=(there,))
        _tool("ip", "addr", "add", f"{LAN}/24", "dev", "uplink")
        _tool("ip", "link", "set", "uplink", "up")
        _tool("ip", "route", "add", METADATA, "dev", "uplink")
        listening = [_tcp(SERVICE), _tcp(DNS, LAN)]  # the farm's own name server has the gateway's port
        with inside(there):
            for address in (f"{INTERNET}/24", f"{METADATA}/32"):
                _tool("ip", "addr", "add", address, "dev", "out")
            _tool("ip", "link", "set", "out", "up")
            _tool("ip", "route", "add", "default", "via", LAN)
            listening.append(_tcp(HTTP))
        for one in listening:
            opened.enter_context(one)
        with _served(listening), inside(here):
            yield


@contextlib.contextmanager
def _served(listening: list[socket.socket]) -> Iterator[None]:
    ending, end = socket.socketpair()
    with ending, end, selectors.DefaultSelector() as selector:
        for one in listening:
            selector.register(one, selectors.EVENT_READ, _greet)
        selector.register(end, selectors.EVENT_READ, None)

        def serve() -> None:
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    act: Callable[[socket.socket], None] = key.data
                    act(key.fileobj)  # type: ignore[arg-type]

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ending.send(b"!")
            thread.join()


def _greet(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection, contextlib.suppress(OSError):
        connection.sendall(b"hello\n")


def _tcp(port: int, address: str = "") -> socket.socket:
    return socket.create_server((address, port))


def _tool(*argv: str, pass_fds: tuple[int, ...] = ()) -> None:
    subprocess.run(argv, check=True, pass_fds=pass_fds)
