"""Take the ELF kernel (vmlinux) out of a bzImage. Firecracker boots nothing else, QEMU boots it faster.

The header's fields are those of the kernel's Documentation/arch/x86/boot.rst: setup_sects, and since
protocol 2.08 payload_offset and payload_length.
"""

from __future__ import annotations

import gzip
import lzma
import struct

from banger.contracts.errors import ToolFailedError
from banger.shell import find_tool, run

_ELF = b"\x7fELF"
_MAX_KERNEL_BYTES = 512 * 1024 * 1024
_DECOMPRESS_DEADLINE_S = 60.0


def payload(image: bytes) -> bytes:
    """Return the compressed kernel inside a bzImage; ToolFailedError when there is none."""
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        raise ToolFailedError("the kernel is not a bzImage")
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        raise ToolFailedError(f"the kernel's boot protocol {version:#x} is older than 0x208")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    # The build appends the uncompressed size; it is not part of the compressed stream.
    return image[start : start + length - 4]


def extract_vmlinux(image: bytes) -> bytes:
    """Return the uncompressed ELF kernel of a bzImage; ToolFailedError for a compression unknown to us."""
    compressed = payload(image)
    if compressed.startswith(_ELF):
        return compressed
    kernel = _decompress(compressed)
    if not kernel.startswith(_ELF):
        raise ToolFailedError("the bzImage's payload is not an ELF kernel")
    return kernel


def _decompress(data: bytes) -> bytes:
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        argv = (find_tool("zstd"), "--decompress", "--stdout", "--quiet")
        done = run(argv, deadline_s=_DECOMPRESS_DEADLINE_S, stdin=data, max_output=_MAX_KERNEL_BYTES)
        return done.stdout
    if data.startswith(b"\xfd7zXZ\x00"):
        return lzma.decompress(data)
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    raise ToolFailedError(f"the kernel is compressed in a way that banger does not know ({data[:6].hex()})")
