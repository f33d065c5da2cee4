"""Configuration: /etc/banger/config.toml, then ~/.config/banger/config.toml, then ``BANGER_*``.

Later sources win, key by key; ``sources()`` tells where each value came from.
"""

from __future__ import annotations

import json
import os
import re
import socket
import tomllib
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from banger.advice import OWNER, START
from banger.complaints import complaints
from banger.contracts.errors import InvalidInputError, UnavailableError
from banger.contracts.file_sync import SyncEntry
from banger.contracts.names import HostName, HostPaths
from banger.contracts.redis_url import ca_url, check_redis_address, check_redis_url, names_user, user_url
from banger.contracts.vmm import WantedVmm

SYSTEM_FILE = Path("/etc/banger/config.toml")


def user_file() -> Path:
    """Return the user's own configuration file."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "banger" / "config.toml"


def own_farm_file() -> Path:
    """Return where ``banger farm up`` writes the farm's addresses for its owner, in the owner's home."""
    return Path.home() / ".config" / "banger" / "farm.json"


def default_host() -> str:
    """Return this machine's name as a DNS label: the first label of its host name, lower case."""
    label = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return label[:63] or "localhost"


class Settings(BaseSettings):
    """All that can be configured. Sizes in MiB, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="BANGER_", extra="forbid", frozen=True)

    host: HostName = Field(default_factory=default_host)
    state_dir: Path = Path("/var/lib/banger")
    run_dir: Path = Path("/run/banger")
    worker_user: str = "banger"
    owner: str | None = None

    redis_url: str | None = None
    redis_ca: Path | None = None
    redis_port: Annotated[int, Field(ge=0, le=65535)] = 7379
    flower_port: Annotated[int, Field(ge=0, le=65535)] = 5555

    network: IPv4Network = IPv4Network("172.16.0.0/24")
    dns: str = "1.1.1.1"
    names: bool = True
    uid_base: Annotated[int, Field(ge=10_000, le=2_000_000_000)] = 300_000
    disk_backend: Literal["auto", "reflink", "copy", "dm-snapshot"] = "auto"
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    vmm: WantedVmm = "auto"
    firecracker: Path = Path("/usr/local/bin/firecracker")
    jailer: Path = Path("/usr/local/bin/jailer")
    serial_log_mib: Annotated[int, Field(ge=1, le=1024)] = 8

    image: str = "micro"
    vcpus: Annotated[int, Field(ge=1, le=64)] = 1
    memory_mib: Annotated[int, Field(ge=64)] = 256
    disk_mib: Annotated[int, Field(ge=1)] = 8192
    system_overlay_mib: Annotated[int, Field(ge=1)] = 8192

    worker_threads: Annotated[int, Field(ge=4, le=1024)] = 128
    ready_timeout_s: Annotated[float, Field(gt=0, le=600)] = 120
    stop_timeout_s: Annotated[float, Field(ge=0, le=600)] = 20
    run_ttl_s: Annotated[float, Field(gt=0)] = 24 * 3600

    file_sync: tuple[SyncEntry, ...] = ()

    @field_validator("redis_url")
    @classmethod
    def _redis_is_safe(cls, url: str | None) -> str | None:
        try:
            if url is not None:
                (check_redis_url if names_user(url) else check_redis_address)(url)
        except InvalidInputError as error:
            raise ValueError(f"{error.brief}. {error.resolution}") from None
        return url

    @field_validator("network")
    @classmethod
    def _network_holds_guests(cls, network: IPv4Network) -> IPv4Network:
        if not 16 <= network.prefixlen <= 29:
            raise ValueError("must have a prefix from /16 to /29")
        return network

    @field_validator("state_dir", "run_dir")
    @classmethod
    def _directory_is_read_alike_by_all(cls, directory: Path) -> Path:
        """Refuse what systemd, udev or Redis would take for two words, or for something of their own."""
        if not re.fullmatch(r"[A-Za-z0-9/._+-]+", str(directory)):
            raise ValueError("may have letters, digits and . _ + - in its names alone")
        return directory

    @field_validator("firecracker", "jailer")
    @classmethod
    def _program_is_found_from_anywhere(cls, program: Path) -> Path:
        if not program.is_absolute():
            raise ValueError("must be an absolute path")
        return program

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, the strongest first; .env files are none of ours."""
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, user_file()),
            TomlConfigSettingsSource(settings_cls, SYSTEM_FILE),
        )

    @property
    def paths(self) -> HostPaths:
        """Where this host keeps things."""
        return HostPaths(self.state_dir, self.run_dir)

    @property
    def farm_file(self) -> Path:
        """Where an embedded farm writes its Redis and Flower addresses, with their passwords."""
        return self.state_dir / "farm.json"

    @property
    def redis_address(self) -> str | None:
        """The configured URL of Redis, with who vouches for its certificate."""
        if self.redis_url and self.redis_ca:
            return ca_url(self.redis_url, str(self.redis_ca))
        return self.redis_url

    def redis(self, role: Literal["cli", "admin"] = "cli") -> str:
        """Return this process's URL of Redis: the configured one where it names a user, else a role's.

        Root reads the farm's own file, everybody else the one that the farm's owner has at home.
        UnavailableError when there is neither, or the file cannot be read, or knows no such role.
        """
        if self.redis_address and names_user(self.redis_address):
            return self.redis_address
        own = own_farm_file()
        file = own if os.geteuid() != 0 and own.exists() else self.farm_file
        try:
            farm = json.loads(file.read_text())
            return user_url(farm["redis_url"], role, farm["redis_passwords"][role])
        except FileNotFoundError:
            raise UnavailableError(
                "no farm is known here",
                details=f"{file} does not exist, and BANGER_REDIS_URL names no user and password",
                resolution=f"{START} Or set BANGER_REDIS_URL.",
            ) from None
        except PermissionError:
            raise UnavailableError(
                "this user does not own the farm",
                details=f"{own} does not exist, and {file} is readable by root alone",
                resolution=OWNER,
            ) from None
        except (ValueError, KeyError):
            raise UnavailableError(
                "the farm was started by an older banger",
                details=f"{file} is not what this banger writes",
                resolution="`sudo banger farm down` and `sudo banger farm up` start it anew, under systemd "
                "`sudo banger system install`; its VMs go on.",
            ) from None


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of this process; InvalidInputError naming each bad key and where it stands."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise InvalidInputError(
            "the configuration is not valid",
            details="\n".join(complaints(error)),
            resolution=f"See {SYSTEM_FILE}, {user_file()} and the BANGER_* environment variables.",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            "a configuration file is not valid TOML",
            details=str(error),
            resolution=f"See {SYSTEM_FILE} and {user_file()}.",
        ) from None


def sources(settings: Settings) -> dict[str, tuple[Any, str]]:
    """Return each setting's value and where it came from: a file, an environment variable, or ``default``."""
    found: dict[str, tuple[Any, str]] = {}
    paths = [path for path in (user_file(), SYSTEM_FILE) if path.exists()]
    files = [(str(path), tomllib.loads(path.read_text())) for path in paths]
    for name in Settings.model_fields:
        variable = f"BANGER_{name.upper()}"
        origin = next((path for path, content in files if name in content), "default")
        if variable in os.environ:
            origin = variable
        found[name] = (getattr(settings, name), origin)
    return found
