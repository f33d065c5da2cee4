"""A guest made of bytes: it holds the tap's descriptor as a VMM would, and says what the test wants."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from ipaddress import IPv4Address
from types import TracebackType

from banger.contracts.names import Slot
from root_worker.ops.tap import open_tap

BROADCAST = "ff:ff:ff:ff:ff:ff"
DEADLINE_S = 5.0
_SIOCSIFHWADDR = 0x8924
_ARPHRD_ETHER = 1
_NO_OFFLOAD = bytes(10)  # struct virtio_net_hdr, which IFF_VNET_HDR puts before each frame


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    return mac_bytes(target) + mac_bytes(source) + struct.pack("!H", kind) + payload.ljust(46, b"\0")


def arp(operation: int, mac: str, sender: IPv4Address, target: IPv4Address) -> bytes:
    return (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
        + mac_bytes(mac)
        + sender.packed
        + bytes(6)
        + target.packed
    )


def ipv4(source: IPv4Address, target: IPv4Address, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    header += source.packed + target.packed
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + payload


def udp(source_port: int, target_port: int, data: bytes) -> bytes:
    return struct.pack("!HHHH", source_port, target_port, 8 + len(data), 0) + data


def ping(data: bytes) -> bytes:
    plain = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + data
    return plain[:2] + struct.pack("!H", _checksum(plain)) + plain[4:]


def _checksum(data: bytes) -> int:
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class FakeGuest:
    """The guest of one tap. Closing it lets the tap go, as the VMM's death would."""

    def __init__(self, vm_id: str, slot: Slot, gateway_mac: str) -> None:
        self.slot = slot
        self.gateway_mac = gateway_mac
        self._fd = open_tap(vm_id)
        os.set_blocking(self._fd, False)

    def __enter__(self) -> FakeGuest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def rename_tap(self, mac: str) -> None:
        """Give the tap's end at the host another MAC, for which the kernel asks no privilege."""
        fcntl.ioctl(self._fd, _SIOCSIFHWADDR, struct.pack("16sH6s8x", b"", _ARPHRD_ETHER, mac_bytes(mac)))

    def send(self, frame: bytes) -> None:
        os.write(self._fd, _NO_OFFLOAD + frame)

    def send_ip(self, target: IPv4Address, protocol: int, payload: bytes) -> None:
        packet = ipv4(self.slot.address, target, protocol, payload)
        self.send(ethernet(self.slot.mac, self.gateway_mac, 0x0800, packet))

    def frames_until(self, wanted: bytes, within_s: float = DEADLINE_S) -> list[bytes]:
        """Return what arrives, up to and with the first frame that holds these bytes."""
        seen: list[bytes] = []
        deadline = time.monotonic() + within_s
        while not seen or wanted not in seen[-1]:
            if not select.select([self._fd], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no frame with {wanted!r} among {seen!r}")
            seen.append(os.read(self._fd, 65536)[len(_NO_OFFLOAD) :])
        return seen

    def meet_gateway(self) -> None:
        """Ask for the gateway's MAC, and so tell the host ours: it needs no ARP of its own afterwards.

        Asked again and again, as a kernel does: the bridge opens a port a little after its carrier comes.
        """
        question = arp(1, self.slot.mac, self.slot.address, self.slot.gateway)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.send(ethernet(self.slot.mac, BROADCAST, 0x0806, question))
            try:
                self.frames_until(mac_bytes(self.gateway_mac) + self.slot.gateway.packed, within_s=0.05)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
            else:
                return
