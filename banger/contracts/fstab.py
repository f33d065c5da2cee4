"""The guest's /etc/fstab: what is there, without /home and /var, with tmpfs and the mounts we contribute."""

from __future__ import annotations

from collections.abc import Sequence

from banger.contracts.requests import Mount

_DROPPED = frozenset({"/home", "/var"})
_TMPFS = (
    Mount(source="tmpfs", target="/run", fstype="tmpfs", options="defaults,nodev,nosuid,mode=0755"),
    Mount(source="tmpfs", target="/tmp", fstype="tmpfs", options="defaults,nodev,nosuid,mode=1777"),  # noqa: S108
)


def merge(current: str, mounts: Sequence[Mount]) -> str:
    """Return the fstab that a guest boots with, given the text that is there (empty where it is absent).

    Mounts of /home and /var are dropped, tmpfs for /run and /tmp and then ``mounts`` follow, each in place of
    a line of the same target. All other lines stay to the letter, comments too. Idempotent.
    """
    contributed = {mount.target: mount for mount in (*_TMPFS, *mounts)}
    replaced = _DROPPED | contributed.keys()
    lines = current.removesuffix("\n").split("\n") if current else []
    kept = [line for line in lines if _target(line) not in replaced]
    return "".join(f"{line}\n" for line in (*kept, *map(_line, contributed.values())))


def _target(line: str) -> str | None:
    """Return the line's mount point, a trailing slash taken off; None for a comment or what is no mount."""
    fields = line.split()
    if len(fields) < 2 or fields[0].startswith("#"):
        return None
    return fields[1].rstrip("/") or "/"


def _line(mount: Mount) -> str:
    return f"{mount.source} {mount.target} {mount.fstype} {mount.options} {mount.dump} {mount.passno}"
