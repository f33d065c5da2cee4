"""Asks a name server, over UDP, and reads what it says: no more of DNS than tests need."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address
from typing import NamedTuple

A, PTR, TXT, AAAA = 1, 12, 16, 28
NO_ERROR, NAME_ERROR, REFUSED = 0, 3, 5


class Answer(NamedTuple):
    """A code of RFC 1035, and the data of each record: an address, a name, or bytes."""

    code: int
    data: list[str]


def ask(name: str, server: IPv4Address | str, kind: int = A, *, patience_s: float = 2.0) -> Answer:
    """Return the server's answer; TimeoutError without one, ConnectionRefusedError where nobody listens."""
    question = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"
    query = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question + struct.pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(patience_s)
        asking.connect((str(server), 53))
        asking.send(query)
        said = asking.recv(4096)
    at, data = len(query), []
    for _ in range(struct.unpack_from("!H", said, 6)[0]):
        _, at = _name(said, at)
        found, _, _, length = struct.unpack_from("!HHIH", said, at)
        at += 10
        data.append(_data(said, at, found, length))
        at += length
    return Answer(said[3] & 0xF, data)


def addresses(name: str, server: IPv4Address | str) -> list[str]:
    """Return the addresses of a name."""
    return ask(name, server).data


def reverse(address: str, server: IPv4Address | str) -> Answer:
    """Return what an address is called."""
    return ask(IPv4Address(address).reverse_pointer, server, PTR)


def _data(said: bytes, at: int, kind: int, length: int) -> str:
    if kind == A:
        return str(IPv4Address(said[at : at + 4]))
    return _name(said, at)[0] if kind == PTR else repr(said[at : at + length])


def _name(said: bytes, at: int) -> tuple[str, int]:
    labels, end = [], None
    while said[at]:
        if said[at] >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from("!H", said, at)[0] & 0x3FFF
            continue
        labels.append(said[at + 1 : at + 1 + said[at]].decode())
        at += 1 + said[at]
    return ".".join(labels), end or at + 1
