"""The embedded farm's passwords and ports: made once, kept in one file that root alone can read.

Services get them through their environment or a file of their own, never on a command line.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from banger.embedded.ports import Ports, choose_ports
from banger.settings import Settings

FLOWER_USER = "banger"


class Credentials(BaseModel):
    """What STATE/farm.json holds. The Redis URL is someone else's where one was configured."""

    model_config = ConfigDict(frozen=True)

    redis_url: str
    redis_password: str
    redis_port: int
    flower_url: str
    flower_user: str
    flower_password: str
    flower_port: int


def load(farm_file: Path) -> Credentials | None:
    """Return the farm's credentials, or None before its first start."""
    try:
        return Credentials.model_validate_json(farm_file.read_bytes())
    except FileNotFoundError:
        return None


def ensure(settings: Settings) -> Credentials:
    """Return the farm's credentials, made on the first call; written when they changed.

    Raises what ``choose_ports`` does; the file is then as it was.
    """
    old = load(settings.farm_file)
    password = old.redis_password if old else secrets.token_urlsafe(32)
    ports = choose_ports(settings, Ports(old.redis_port, old.flower_port) if old else None)
    credentials = Credentials(
        redis_url=settings.redis_url or f"redis://:{quote(password, safe='')}@127.0.0.1:{ports.redis}/0",
        redis_password=password,
        redis_port=ports.redis,
        flower_url=f"http://127.0.0.1:{ports.flower}",
        flower_user=FLOWER_USER,
        flower_password=old.flower_password if old else secrets.token_urlsafe(18),
        flower_port=ports.flower,
    )
    if credentials != old:
        write_private(settings.farm_file, credentials.model_dump_json(indent=2))
    return credentials


def write_private(path: Path, text: str, *, gid: int = 0, mode: int = 0o600) -> None:
    """Write a file whole: root's, with this mode from its first byte on, replaced by rename."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fchown(fd, 0, gid)
        os.fchmod(fd, mode)
        os.fsync(fd)
    scratch.replace(path)
