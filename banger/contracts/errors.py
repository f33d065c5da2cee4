"""Errors that help: what happened, why, what to do. They cross queues as plain dictionaries."""

from __future__ import annotations

import errno
from typing import Any, ClassVar


class BangerError(Exception):
    """Base of all errors that banger raises on purpose.

    ``brief`` is one line for the terminal, ``details`` the evidence (a tool's output, both sizes),
    ``resolution`` what the reader can do about it. ``exit_code`` is what the CLI ends with.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, brief: str, *, details: str = "", resolution: str = "") -> None:
        super().__init__(brief)
        self.brief = brief
        self.details = details
        self.resolution = resolution

    def __str__(self) -> str:
        return "\n".join(part for part in (self.brief, self.details, self.resolution) if part)

    def to_wire(self) -> dict[str, Any]:
        """Return the error as JSON-ready data; ``from_wire`` makes the same class of it again."""
        return {
            "kind": type(self).__name__,
            "brief": self.brief,
            "details": self.details,
            "resolution": self.resolution,
        }


class InvalidInputError(BangerError):
    """What was asked for is not well-formed or not allowed. Nothing was created."""

    exit_code = 2


class NotFoundError(BangerError):
    """The VM, image, host or job that was named does not exist."""

    exit_code = 2


class ConflictError(BangerError):
    """The name is taken, or another job has the VM."""

    exit_code = 2


class WrongStateError(BangerError):
    """The VM's state does not allow this."""

    exit_code = 2


class ImageDamagedError(BangerError):
    """A file of an image or its kernel is missing, or no longer has the digest it was built with."""

    exit_code = 2


class CapacityError(BangerError):
    """No host can take the VM (the details say how many hosts each filter removed), or a disk is full."""

    exit_code = 2


class UnavailableError(BangerError):
    """Redis cannot be reached, or nobody serves the queue that the work waits in."""

    exit_code = 3


class StageFailedError(BangerError):
    """A stage did not do what it should; the host was put back as it was."""


class GuestUnreachableError(BangerError):
    """SSH to a guest failed, or was lost before the guest said how its command ended."""


class ToolFailedError(BangerError):
    """An external tool failed; the details hold its last output."""


class PolicyError(BangerError):
    """Root was asked for something that its policy does not allow."""


class StaleGenerationError(PolicyError):
    """The request is older than what root's registry knows: a later start has been here."""


class CancelledError(BangerError):
    """The job was cancelled by the user."""

    exit_code = 130


class InternalError(BangerError):
    """A defect in banger; the log has the traceback."""


_KINDS = {
    cls.__name__: cls
    for cls in (
        BangerError,
        InvalidInputError,
        NotFoundError,
        ConflictError,
        WrongStateError,
        ImageDamagedError,
        CapacityError,
        UnavailableError,
        StageFailedError,
        GuestUnreachableError,
        ToolFailedError,
        PolicyError,
        StaleGenerationError,
        CancelledError,
        InternalError,
    )
}


def from_wire(data: dict[str, Any]) -> BangerError:
    """Return the error that ``to_wire`` described; an unknown kind becomes a plain BangerError."""
    cls = _KINDS.get(str(data.get("kind")), BangerError)
    return cls(
        str(data.get("brief", "unknown error")),
        details=str(data.get("details", "")),
        resolution=str(data.get("resolution", "")),
    )


def as_banger_error(error: BaseException) -> BangerError:
    """Return the error itself, or an InternalError with its type and text when it is not one of ours."""
    if isinstance(error, BangerError):
        return error
    if isinstance(error, OSError) and is_full(error):
        return disk_is_full(error.filename or "a file of this host", str(error))
    return InternalError(f"{type(error).__name__}: {error}", resolution="The worker's log has the traceback.")


def is_full(error: OSError) -> bool:
    """Tell whether a file system has no room, or its user's quota of it is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_is_full(what: object, details: str) -> CapacityError:
    """Return the error of a file (its path) that there is no room for, foreseen or met on the way."""
    return CapacityError(
        f"The disk is full: {what} could not be written",
        details=details,
        resolution="Make room there; `df` and `df -i` on that host say which disk it is. In the state"
        " directory `banger vm prune` makes some.",
    )
