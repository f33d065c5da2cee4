"""Check a stored file against its digest, at the price of a stat once it has been read.

A file that was read and found right is remembered by inode, size, mtime and ctime, in a directory
of the caller's own. Whoever changes the file changes its ctime, which nobody but root can set back.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from tempfile import NamedTemporaryFile

from banger.contracts.errors import ImageDamagedError
from banger.images.manifest import FileDigest, digest_file

_hashing = threading.Lock()  # one reader at a time: two would only share the same disk


def verify_file(path: Path, expected: FileDigest, verified: Path) -> None:
    """Raise ImageDamagedError unless ``path`` has the expected digest; ``verified`` keeps what was seen."""
    receipt = verified / f"{path.parent.name}.{path.name}"
    if _stamp(path, expected) == _read(receipt):
        return
    with _hashing:
        stamp = _stamp(path, expected)
        if stamp == _read(receipt):
            return
        found = digest_file(path)
        if found != expected:
            raise ImageDamagedError(
                f"{path} is not what was built",
                details=f"expected {expected.bytes} bytes, sha256 {expected.sha256}\n"
                f"found    {found.bytes} bytes, sha256 {found.sha256}",
                resolution="Delete the image and build it again.",
            )
        _write(receipt, stamp)


def has_changed(path: Path, verified: Path) -> bool:
    """Tell whether a file is another one, by inode, size or mtime, than was read and found right last."""
    receipt = _read(verified / f"{path.parent.name}.{path.name}")
    try:
        seen = path.stat()
    except FileNotFoundError:
        return True
    return receipt is not None and receipt.split()[:3] != _identity(seen).split()


def _identity(seen: os.stat_result) -> str:
    return f"{seen.st_ino} {seen.st_size} {seen.st_mtime_ns}"


def _stamp(path: Path, expected: FileDigest) -> str:
    try:
        seen = path.stat()
    except FileNotFoundError as error:
        raise ImageDamagedError(
            f"{path} is missing", resolution="Delete the image and build it again."
        ) from error
    return f"{_identity(seen)} {seen.st_ctime_ns} {expected.sha256}"


def _read(receipt: Path) -> str | None:
    try:
        return receipt.read_text()
    except FileNotFoundError:
        return None


def _write(receipt: Path, stamp: str) -> None:
    receipt.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=receipt.parent, prefix=".new-", delete=False) as file:
        file.write(stamp)
    Path(file.name).replace(receipt)
