"""What no library of ours has of the kernel's interface: from linux's if_tun.h, loop.h, dm-ioctl.h, ...."""

from __future__ import annotations

import struct

TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
TUNSETOWNER = 0x400454CC
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000  # make, never attach to what is there

IFF_UP = 1
NUD_PERMANENT = 0x80

LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_READ_ONLY = 1
LO_FLAGS_AUTOCLEAR = 4
LO_FLAGS_DIRECT_IO = 16

DM_TABLE_STATUS = 0xC138FD0C
_DM_HEAD_BYTES = 312
_DM_BYTES = 1024  # with room for the one target of a device of ours


def tun_request(name: str, flags: int) -> bytes:
    """Return the ``struct ifreq`` of TUNSETIFF."""
    return struct.pack("16sH22x", name.encode(), flags)


def loop_config(file: int, flags: int) -> bytes:
    """Return the ``struct loop_config`` of LOOP_CONFIGURE: the descriptor, and of loop_info64 the flags."""
    return struct.pack("=II 40x 12xI 64x64x32x16x 64x", file, 0, flags)


def dm_request(name: str) -> bytearray:
    """Return the ``struct dm_ioctl`` of a request about a device, with room for the reply."""
    head = struct.pack("=3I II 28x 128s", 4, 0, 0, _DM_BYTES, _DM_HEAD_BYTES, name.encode())
    return bytearray(head.ljust(_DM_BYTES, b"\0"))


def dm_target(reply: bytearray) -> tuple[str, str]:
    """Return the type and the line of status of a device's one target; empty where it has no table."""
    start, count = struct.unpack_from("=II", reply, 16)
    if not count:
        return "", ""
    kind, line = struct.unpack_from("=24x16s", reply, start)[0], bytes(reply[start + 40 :])
    return kind.partition(b"\0")[0].decode(), line.partition(b"\0")[0].decode().strip()
