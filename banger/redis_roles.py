"""Who may do what in Redis: one user a role, one table of rights, rendered as Redis' own ACL lines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from banger.contracts.broker import Role, user_name


def acl_lines(host: str, passwords: Mapping[Role, str]) -> list[str]:
    """Return one ``user`` line for each role, with the SHA-256 of its password; the default user is off."""
    users = [
        f"user {user_name(role, host)} on #{hashlib.sha256(password.encode()).hexdigest()} ~* &* +@all"
        for role, password in passwords.items()
    ]
    return ["user default off", *users]
