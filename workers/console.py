"""The guest's console log, as the worker makes it: the farm's owner may read it too, and nobody else.

Root takes the two files over as they are, with the access control list that they have: no group has to be
made, or joined, for it.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from banger.contracts.names import HostPaths
from workers.new_file import new_file

_MODE = 0o640

# Linux' posix_acl_xattr.h: a version, then tag, permissions and id of each entry, in the order of the tags.
_VERSION = struct.pack("<I", 2)
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_READ, _WRITE = 4, 2
_NOBODY_NAMED = 0xFFFFFFFF
_NO_ACLS = (errno.EOPNOTSUPP, errno.ENOSYS)


def make_console(paths: HostPaths, vm_id: str) -> None:
    """Make both halves of the log unless they are there. Where root alone has the farm, root makes them."""
    try:
        owner = paths.spool.stat().st_uid
    except FileNotFoundError:
        return
    log = paths.serial_log(vm_id)
    for path in (log, log.with_name(f"{log.name}.1")):
        if owner != 0 and not path.exists():
            with new_file(path, _MODE) as scratch:
                scratch.touch(_MODE)
                _let_read(scratch, owner)


def _let_read(path: Path, uid: int) -> None:
    """Make a file rw-r----- and let this user read it too, where the file system knows such lists.

    A later chown leaves the list as it is, and a chmod to rw-r----- says the same once more.
    """
    entries = (
        (_OWNER, _READ | _WRITE, _NOBODY_NAMED),
        (_USER, _READ, uid),
        (_GROUP, _READ, _NOBODY_NAMED),
        (_MASK, _READ, _NOBODY_NAMED),
        (_OTHER, 0, _NOBODY_NAMED),
    )
    wire = _VERSION + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", wire)
    except OSError as error:
        if error.errno not in _NO_ACLS:
            raise
