"""Where an installation's parts lie, beside the state and run directories that are configured."""

from __future__ import annotations

from pathlib import Path

from banger.settings import SYSTEM_FILE

ETC = SYSTEM_FILE.parent
CREDENTIALS = ETC / "credentials"
UNITS = Path("/etc/systemd/system")
TMPFILES = Path("/etc/tmpfiles.d/banger.conf")

TARGET = "banger.target"
REDIS = "banger-redis.service"
NETWORK = "banger-network.service"
WORKER = "banger-worker.service"
ROOT_WORKER = "banger-root-worker.service"
FLOWER = "banger-flower.service"
DNS = "banger-dns.service"


def environment_file(unit: str) -> Path:
    """Return the file of a service's secrets, which systemd reads as root and hands on as its environment."""
    return CREDENTIALS / f"{unit.removeprefix('banger-').removesuffix('.service')}.env"
