"""``banger vm cp``: files into a guest and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from banger.cli.session import session_of
from banger.contracts.durations import parse_duration
from banger.contracts.errors import InvalidInputError

_DEADLINE_S = 3600.0


def cp(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="PATH, or NAME:PATH in a VM.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="PATH, or NAME:PATH in a VM.")],
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Give up after this time (1h).")
    ] = None,
) -> int:
    """Copy a file or a directory into a VM or out of it.

    A path in a VM is relative to /root. As with scp, a local name with a colon is written ./like:this.

    \b
    Examples:
      banger vm cp Makefile dev:/srv/
      banger vm cp dev:/var/log ./dev-log
    """
    session = session_of(ctx)
    deadline_s = _DEADLINE_S if timeout is None else parse_duration(timeout, "timeout")
    from_guest, to_guest = parse_place(source), parse_place(target)
    if from_guest is not None and to_guest is None:
        left_out = session.farm.copy_from(from_guest.vm, from_guest.path, Path(target), deadline_s)
        for path in left_out:
            typer.echo(f"banger: left out {path}: it is no file, directory or link within the copy", err=True)
    elif to_guest is not None and from_guest is None:
        session.farm.copy_to(to_guest.vm, Path(source), to_guest.path, deadline_s)
    else:
        raise InvalidInputError(
            "one side of a copy is a VM, the other is this machine",
            details=f"{source} -> {target}",
            resolution="Write the VM's side NAME:PATH, and a local name with a colon ./like:this.",
        )
    return 0


class Place(NamedTuple):
    """A path in a VM."""

    vm: str
    path: str


def parse_place(text: str) -> Place | None:
    """Return the place that ``NAME:PATH`` names (no path: root's home), or None for a local path."""
    vm, colon, path = text.partition(":")
    if not colon or not vm or "/" in vm:
        return None
    return Place(vm, path or ".")
