"""Whom do the VMs' uids belong to already? What runs under one of them is killed with its VM.

So is what has one for a group: a VM's jail is made by a process of root's that can be told by that alone.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterator
from pathlib import Path

RANGES = (Path("/etc/subuid"), Path("/etc/subgid"))


def taken(first: int, count: int) -> tuple[str, ...]:
    """Return users, groups, and ranges handed to users' containers, among ``count`` ids from ``first`` on."""
    ids = range(first, first + count)
    return (
        *(f"user {account.pw_name}" for account in pwd.getpwall() if account.pw_uid in ids),
        *(f"group {group.gr_name}" for group in grp.getgrall() if group.gr_gid in ids),
        *(told for file in RANGES for told in _ranges(file, first, count)),
    )


def _ranges(file: Path, first: int, count: int) -> Iterator[str]:
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        name, start, length = [*line.split(":"), "", ""][:3]
        if not (start.isdigit() and length.isdigit()):
            continue
        if int(start) < first + count and first < int(start) + int(length):
            yield f"{file} of {name}"
