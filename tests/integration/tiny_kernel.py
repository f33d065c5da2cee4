"""Kernels of a few dozen bytes: they say a word on the serial port in a hundredth of a real one's time.

An ELF file with Xen's PVH note, which QEMU starts in 32-bit protected mode with flat segments.
"""

from __future__ import annotations

import struct
from typing import Literal

_LOAD_ADDRESS = 0x100000
_PHYS32_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY

_PRINT = bytes.fromhex(
    "ac"  # next: lodsb
    "84c0 7414"  # test al, al; jz end
    "88c3"  # mov bl, al
    "66bafd03"  # mov dx, 0x3fd: the line status register
    "ec a820 74fb"  # wait: in al, dx; test al, 0x20; jz wait
    "88d8"  # mov al, bl
    "66baf803 ee"  # mov dx, 0x3f8; out dx, al
    "ebe7"  # jmp next
)
_END = {
    "halt": bytes.fromhex("fa f4 ebfc"),  # cli; hlt; again
    "reset": bytes.fromhex("0f011d00000000 cc"),  # lidt of nothing; int3: a triple fault
    "again": bytes.fromhex("ebe0"),  # jmp to the start
}


def tiny_kernel(text: str, end: Literal["halt", "reset", "again"] = "halt") -> bytes:
    """Return a kernel that prints the text, then halts for ever, resets the machine, or starts again."""
    headers = 64 + 2 * 56
    note = struct.pack("<III4sQ", 4, 8, _PHYS32_ENTRY, b"Xen\0", _LOAD_ADDRESS)
    code_length = 5 + len(_PRINT) + len(_END[end])
    code = b"\xbe" + struct.pack("<I", _LOAD_ADDRESS + code_length) + _PRINT + _END[end]
    body = code + text.encode() + b"\0"
    elf = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0),
        *(2, 62, 1, _LOAD_ADDRESS, 64, 0, 0, 64, 56, 2, 64, 0, 0),
    )
    load = struct.pack(
        "<IIQQQQQQ",
        *(1, 7, headers + len(note), _LOAD_ADDRESS, _LOAD_ADDRESS, len(body), len(body), 1),
    )
    notes = struct.pack("<IIQQQQQQ", 4, 4, headers, 0, 0, len(note), len(note), 4)
    return elf + load + notes + note + body
