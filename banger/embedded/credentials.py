"""The embedded farm's passwords and ports: made once, kept in one file that root alone can read.

Services get them through their environment or a file of their own, never on a command line.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from banger.advice import MEND
from banger.complaints import complaints
from banger.contracts.broker import Role, roles_here, user_name
from banger.contracts.errors import InvalidInputError
from banger.contracts.redis_url import names_user, user_url
from banger.embedded.ports import Ports, choose_ports
from banger.private_file import write_private
from banger.settings import Settings

FLOWER_USER = "banger"


class Credentials(BaseModel):
    """What STATE/farm.json holds: where Redis is, and the password of each of this host's users there.

    The address names no user, and is someone else's Redis where one was configured.
    """

    model_config = ConfigDict(frozen=True)

    host: str = ""
    redis_url: str
    redis_passwords: dict[Role, str] = {}
    redis_port: int
    flower_url: str
    flower_user: str
    flower_password: str
    flower_port: int

    def url(self, role: Role) -> str:
        """Return the URL by which a role of this host reaches Redis; it holds the role's password."""
        return user_url(self.redis_url, user_name(role, self.host), self.redis_passwords[role])


def load(farm_file: Path) -> Credentials | None:
    """Return the farm's credentials, or None before its first start; InvalidInputError for a damaged file."""
    try:
        return Credentials.model_validate_json(farm_file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InvalidInputError(
            f"{farm_file} is damaged",
            details="\n".join(complaints(error)),
            resolution=f"Remove it: passwords are made anew. {MEND}",
        ) from None


def ensure(settings: Settings) -> Credentials:
    """Return the farm's credentials, made on the first call; written when they changed.

    Raises what ``choose_ports`` does, and InvalidInputError where a Redis is configured with a user's
    password: services do not share one. The file is then as it was.
    """
    old = load(settings.farm_file)
    ports = choose_ports(settings, Ports(old.redis_port, old.flower_port) if old else None)
    credentials = decide(settings, old, ports)
    if credentials != old:
        write_private(settings.farm_file, credentials.model_dump_json(indent=2))
    return credentials


def decide(settings: Settings, old: Credentials | None, ports: Ports) -> Credentials:
    """Return the credentials for these settings, with what old ones there are kept; nothing is written.

    InvalidInputError as above.
    """
    kept = old.redis_passwords if old else {}
    external = _address(settings)
    return Credentials(
        host=settings.host,
        redis_url=external or f"redis://127.0.0.1:{ports.redis}/0",
        redis_passwords={
            role: kept.get(role) or secrets.token_urlsafe(32) for role in roles_here(own_redis=not external)
        },
        redis_port=ports.redis,
        flower_url=f"http://127.0.0.1:{ports.flower}",
        flower_user=FLOWER_USER,
        flower_password=old.flower_password if old else secrets.token_urlsafe(18),
        flower_port=ports.flower,
    )


def _address(settings: Settings) -> str | None:
    if settings.redis_url and names_user(settings.redis_url):
        raise InvalidInputError(
            "redis_url names a user, and the farm's services have one each",
            resolution="Write it without user and password; `banger redis acl` tells Redis who they are.",
        )
    return settings.redis_address
