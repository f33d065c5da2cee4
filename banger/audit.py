"""Read and verify root's audit of this host: its files, and what root has published of their end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banger.advice import START
from banger.contracts.audit import BrokenChainError, Head, follow, whole_lines
from banger.contracts.errors import BangerError, InvalidInputError, NotFoundError


class AuditBrokenError(BangerError):
    """The audit is not what root has written."""


@dataclass(frozen=True)
class Verdict:
    """A chain that holds: how many lines, the number of the first and the last one, refusals among them."""

    lines: int
    first: int
    last: int
    refused: int


def files(directory: Path) -> list[Path]:
    """Return the audit's files, oldest first; NotFoundError without one, InvalidInputError but for root."""
    try:
        found = sorted(path for path in directory.iterdir() if path.suffix == ".jsonl")
    except FileNotFoundError:
        raise NotFoundError(
            "this host has no audit yet",
            details=f"{directory} does not exist",
            resolution=f"Root writes it. {START}",
        ) from None
    except PermissionError:
        raise InvalidInputError(
            "only root can read root's audit", details=str(directory), resolution="Run it with sudo."
        ) from None
    return found


def entries(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield what is in the audit, oldest first, unverified; AuditBrokenError at a line that is none."""
    for path in files(directory):
        for line in whole_lines(path.read_bytes()):
            try:
                entry: dict[str, Any] = json.loads(line)
                _ = (float(entry["at"]), entry["event"])
            except (ValueError, TypeError, KeyError):
                said = line.decode(errors="replace")[:200]
                raise AuditBrokenError(
                    "root's audit was altered",
                    details=f"{path}: no line of root's: {said}",
                    resolution=_WHAT_NOW,
                ) from None
            yield entry


def verify(directory: Path, published: Head | None = None) -> Verdict:
    """Follow the chain from its first line to its last; AuditBrokenError naming file and line.

    ``published`` is what root told Redis of its end: a chain that ends before it was cut.
    """
    head: Head | None = None
    first = count = refused = 0
    for path in files(directory):
        for line in whole_lines(path.read_bytes()):
            try:
                head = follow([line], head) or Head()
            except BrokenChainError as error:
                raise AuditBrokenError(
                    "root's audit was altered", details=f"{path}: {error}", resolution=_WHAT_NOW
                ) from None
            first = first or head.seq
            count += 1
            refused += _refusals(line)
            if published and head.seq == published.seq and head != published:
                raise AuditBrokenError(
                    "root's audit was written anew",
                    details=f"{path}: line {head.seq} is not the one that root published",
                    resolution=_WHAT_NOW,
                )
    last = head.seq if head else 0
    if published and last < published.seq:
        raise AuditBrokenError(
            "root's audit was cut",
            details=f"{directory} ends with line {last}; root has published line {published.seq}",
            resolution=_WHAT_NOW,
        )
    return Verdict(count, first, last, refused)


_WHAT_NOW = "Only root can do this. Keep the files as they are, and find out who was root on this host."


def _refusals(line: bytes) -> int:
    entry = json.loads(line)
    return int(entry.get("count", 1)) if entry.get("event") == "refused" else 0
