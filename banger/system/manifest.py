"""What was made here: the installation's memory, STATE/install.json. Nothing else is ever removed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from banger.contracts.errors import BangerError, NotFoundError
from banger.embedded.paths import farm_paths
from banger.private_file import write_private
from banger.settings import Settings


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MadeUser(_Entry):
    """A user that the installation needs. ``made``: it was not there before."""

    name: str
    made: bool


class MadeDirectory(_Entry):
    """A directory that the installation needs, as it must be. ``made``: it was not there before."""

    path: Path
    owner: str
    mode: int
    made: bool


class MadeFile(_Entry):
    """A file as it was written; without a digest where others write to it by right.

    ``made`` is false for a file that was there before and was kept.
    """

    path: Path
    owner: str
    group: str
    mode: int
    sha256: str | None
    made: bool
    kept: bool = False


class Manifest(_Entry):
    """An installation.

    ``owner`` is the person whose farm it is, with uid and gid; none is root's alone. ``redis_url`` is another
    Redis' address, which holds no password; with none the farm has its own.
    """

    version: str
    installed_at: datetime
    owner: str | None
    uid: int | None
    gid: int | None
    redis_url: str | None
    services: tuple[str, ...]
    users: tuple[MadeUser, ...]
    directories: tuple[MadeDirectory, ...]
    files: tuple[MadeFile, ...]

    @property
    def places(self) -> tuple[MadeDirectory | MadeFile, ...]:
        """All that has a path."""
        return (*self.directories, *self.files)


def load(settings: Settings) -> Manifest | None:
    """Return the installation of this host, None where there is none; BangerError where it cannot be read."""
    path = farm_paths(settings).installation
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise BangerError(
            f"{path} is damaged",
            details=str(error),
            resolution="Restore it, or remove what was installed by hand.",
        ) from None


def installed(settings: Settings) -> Manifest:
    """Return the installation whose services systemd runs; NotFoundError where there is none (any more)."""
    found = load(settings)
    if found is None or not found.services:
        raise nothing_installed()
    return found


def save(settings: Settings, found: Manifest) -> None:
    """Write the manifest whole. It holds no secret: anybody may ask what is installed."""
    write_private(farm_paths(settings).installation, found.model_dump_json(indent=2), mode=0o644)


def nothing_installed() -> NotFoundError:
    """Return the error of a host without an installation."""
    return NotFoundError(
        "nothing is installed here", resolution="`sudo banger system install` installs the farm's services."
    )
