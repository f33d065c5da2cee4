"""Whom do the VMs' uids belong to already? What runs under one of them is killed with its VM."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from pathlib import Path

SUBUIDS = Path("/etc/subuid")


def taken(first: int, count: int) -> tuple[str, ...]:
    """Return accounts, and ranges handed to users' containers, among ``count`` uids from ``first`` on."""
    return (*_accounts(range(first, first + count)), *_ranges(first, count))


def _accounts(uids: range) -> Iterator[str]:
    for account in pwd.getpwall():
        if account.pw_uid in uids:
            yield f"user {account.pw_name}"


def _ranges(first: int, count: int) -> Iterator[str]:
    try:
        lines = SUBUIDS.read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        name, start, length = [*line.split(":"), "", ""][:3]
        if not (start.isdigit() and length.isdigit()):
            continue
        if int(start) < first + count and first < int(start) + int(length):
            yield f"{SUBUIDS} of {name}"
