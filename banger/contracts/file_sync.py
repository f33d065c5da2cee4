"""Files of a user's home that go into a guest's /root: what is configured, and what is handed over.

An *entry* is what a user configures. A *bundle* is what the user's own process has read: the worker is given
it in a file of this host, since what a home holds has no business in Redis. Both sides check the same rules.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from banger.contracts.requests import Frozen

GUEST_HOME = "/root"
STAGING = f"{GUEST_HOME}/.banger-sync"  # where a guest unpacks a bundle, before each file takes its name
MAX_FILES = 64
MAX_FILE_BYTES = 1024 * 1024
MAX_BUNDLE_BYTES = 8 * 1024 * 1024
MAX_WIRE_BYTES = MAX_BUNDLE_BYTES * 4 // 3 + 256 * 1024  # a bundle as JSON: base64, and the names
_MAX_PATH = 500
_NOT_OURS = (STAGING, f"{GUEST_HOME}/.ssh/authorized_keys")  # sshd's, and what keeps the farm able to come in


def guest_path(text: str) -> str:
    """Return the path in the one spelling that it has; ValueError unless it lies beneath /root."""
    parts = text.split("/")
    if parts[0] or ".." in parts or not text.isprintable():
        raise ValueError(
            f"must be an absolute path beneath {GUEST_HOME}, without '..' and unprintable letters"
        )
    path = "/" + "/".join(part for part in parts if part not in ("", "."))
    if not path.startswith(f"{GUEST_HOME}/"):
        raise ValueError(f"must be beneath {GUEST_HOME}")
    if any(f"{path}/".startswith(f"{taken}/") for taken in _NOT_OURS):
        raise ValueError(f"is kept for banger itself: {' and '.join(_NOT_OURS)}")
    return path


def _home_path(text: str) -> str:
    parts = text.split("/")
    if parts[0] not in ("", "~") or len(parts) < 2 or ".." in parts or not text.isprintable():
        raise ValueError("must begin with ~/ or /, and hold neither '..' nor unprintable letters")
    return text


HomePath = Annotated[str, AfterValidator(_home_path), StringConstraints(max_length=_MAX_PATH)]
SyncedPath = Annotated[str, AfterValidator(guest_path), StringConstraints(max_length=_MAX_PATH)]
OctalMode = Annotated[str, StringConstraints(pattern=r"^0?[0-7]{3}$")]  # no room for setuid, setgid, sticky


class SyncEntry(Frozen):
    """A file or directory of the user's home, and what it is called in the guest.

    ``mode`` is octal and counts for each file; without it a file keeps its own, less what lets others write.
    """

    host: HomePath
    guest: SyncedPath
    mode: OctalMode | None = None


class SyncedFile(Frozen):
    """One regular file as the guest shall have it."""

    # Bytes are base64 in JSON: a home holds more than text.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    path: SyncedPath
    mode: Annotated[int, Field(ge=0, le=0o777)]
    content: Annotated[bytes, Field(max_length=MAX_FILE_BYTES)]


class Bundle(Frozen):
    """All files for one start of a VM."""

    files: Annotated[tuple[SyncedFile, ...], Field(max_length=MAX_FILES)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        paths = [file.path for file in self.files]
        if twice := sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(f"more than one file would become {twice[0]}")
        if sum(len(file.content) for file in self.files) > MAX_BUNDLE_BYTES:
            raise ValueError(f"they are more than {MAX_BUNDLE_BYTES // 2**20} MiB together")
        return self
