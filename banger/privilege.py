"""What only root does on a host is refused to others in one way, before anything is begun."""

from __future__ import annotations

import os

from banger.contracts.errors import InvalidInputError


def require_root(what: str, why: str = "") -> None:
    """Raise InvalidInputError unless this process is root; ``what`` goes on after "only root can"."""
    if os.geteuid() != 0:
        raise InvalidInputError(f"only root can {what}", details=why, resolution="Run it with sudo.")
