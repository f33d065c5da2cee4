"""Root's policy as it stands in a file that root alone can write."""

from __future__ import annotations

import os
from pathlib import Path

from banger.contracts.errors import PolicyError
from banger.contracts.policy import Policy
from banger.contracts.tickets import TicketKey


class PolicyFile:
    """The root-owned file. Its limits are read once; its keys whenever it was written anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, Policy] | None = None

    def read(self) -> Policy:
        """Return the policy; PolicyError where anybody but root could have written it."""
        fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(fd)
            if found.st_uid != 0 or found.st_mode & 0o022:
                raise PolicyError(f"{self._path} must be owned by root and writable by root alone")
            self._read = (found.st_ctime_ns, Policy.model_validate_json(file.read()))
        return self._read[1]

    def ticket_keys(self) -> tuple[TicketKey, ...]:
        """Return the keys that sign tickets now; rotating them takes no restart."""
        known = self._read
        fresh = known is not None and self._path.stat().st_ctime_ns == known[0]
        return (known[1] if known and fresh else self.read()).ticket_keys
