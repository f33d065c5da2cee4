"""Taking the ELF kernel out of a bzImage."""

from __future__ import annotations

import gzip
import lzma
import struct

import pytest

from banger.contracts.errors import ToolFailedError
from banger.images.bzimage import extract_vmlinux

ELF = b"\x7fELF and a kernel" * 100


def bzimage(payload: bytes, setup_sectors: int = 3, version: int = 0x20F) -> bytes:
    header = bytearray(0x250)
    header[0x1F1] = setup_sectors
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, version)
    struct.pack_into("<II", header, 0x248, 0x100, len(payload) + 4)
    start = (setup_sectors + 1) * 512 + 0x100
    return bytes(header).ljust(start, b"\0") + payload + struct.pack("<I", len(ELF)) + b"trailer"


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_the_elf_kernel_is_found(compress: type[bytes]) -> None:
    assert extract_vmlinux(bzimage(compress(ELF))) == ELF


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"no kernel", "not a bzImage"),
        (bzimage(ELF, version=0x207), "older than 0x208"),
        (bzimage(b"????"), "compressed in a way"),
        (bzimage(gzip.compress(b"no ELF")), "not an ELF"),
    ],
)
def test_anything_else_is_refused(image: bytes, said: str) -> None:
    with pytest.raises(ToolFailedError, match=said):
        extract_vmlinux(image)
