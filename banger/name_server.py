"""The farm's name server: dnsmasq, which answers ``NAME.vm`` for this host's VMs, and nothing else.

It listens on the bridge's address, where guests may ask it and this host can. What it knows are files of the
worker's (``workers.names``), which it reads when they change. It has nobody to ask further: all that is not
``vm`` is refused at once, so that no guest without NAT talks to the world through it.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

from banger.contracts.errors import ToolFailedError
from banger.settings import Settings
from banger.shell import find_tool

DOMAIN = "vm"
PORT = 53
OLDEST = (2, 88)  # before that one, names stayed when their files went
# What no VM can be called: by it a farm's own name server is told from any other.
MARK = f"_banger.{DOMAIN}"

_TXT, _IN, _NO_ERROR, _RECURSE = 16, 1, 0, 0x0100
_MAX_BYTES = 512


def installed() -> bool:
    """Tell whether there is a dnsmasq on this machine."""
    try:
        find_tool("dnsmasq")
    except ToolFailedError:
        return False
    return True


def resolved(settings: Settings) -> Settings:
    """Return the settings with ``names`` made concrete: off where there is no dnsmasq."""
    return settings if installed() else settings.model_copy(update={"names": False})


def gateway(settings: Settings) -> IPv4Address:
    """Return the address that guests and this host ask: the bridge's."""
    return settings.network.network_address + 1


def name_server_argv(settings: Settings) -> tuple[str, ...]:
    """Return what runs the name server. It takes its socket as whoever it is: it drops nothing by itself."""
    address = gateway(settings)
    return (
        *(find_tool("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="),
        *("--log-facility=-", "--bind-interfaces", f"--listen-address={address}", f"--port={PORT}"),
        *("--no-resolv", "--no-hosts", f"--hostsdir={settings.paths.names}", "--cache-size=0"),
        # All of ``vm`` and of private addresses is known here, or does not exist: no other is asked.
        *(f"--local=/{DOMAIN}/", "--bogus-priv", "--no-ident"),
        *(f"--address=/{MARK}/{address}", f"--txt-record={MARK},{mark(settings)}"),
    )


def mark(settings: Settings) -> str:
    """Return the word that no other farm of this host says of itself."""
    return settings.paths.cgroups


def ask_mark(address: IPv4Address, answer_s: float = 1.0) -> str | None:
    """Return what a name server says of itself: nothing where it is none of banger's, None where none is."""
    question = b"".join(bytes((len(label),)) + label.encode() for label in MARK.split(".")) + b"\0"
    query = struct.pack("!HHHHHH", 1, _RECURSE, 1, 0, 0, 0) + question + struct.pack("!HH", _TXT, _IN)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(answer_s)
        try:
            asking.bind((str(address), 0))  # without the bridge it is anybody's address, out there
            asking.connect((str(address), PORT))  # so that we hear of it when nobody listens there
            asking.send(query)
            said = asking.recv(_MAX_BYTES)
        except OSError:
            return None
    return _text_of(said, len(query))


def _text_of(said: bytes, asked_bytes: int) -> str:
    """Return the text of an answer's first record, empty where it has none."""
    head = asked_bytes + 12  # a record's: a pointer to the name, type, class, time to live, length
    if len(said) <= head or said[3] & 0xF != _NO_ERROR:
        return ""
    kind, _, _, length = struct.unpack_from("!HHIH", said, asked_bytes + 2)
    text = said[head : head + length]
    return text[1 : 1 + text[0]].decode(errors="replace") if kind == _TXT and text else ""
