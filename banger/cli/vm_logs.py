"""``banger vm logs``: what a guest said on its serial console."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.session import session_of

if TYPE_CHECKING:
    from banger.farm import Farm

_POLL_S = 0.2
_ASK_EVERY = 5  # polls: once a second, whether the VM is still there
_STEERING = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[^\[]|[\x00-\x08\x0b-\x1f\x7f]")


def logs(
    ctx: typer.Context,
    name: options.Ref,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the VM is gone, or Ctrl-C.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, metavar="N", help="Only the last N lines.")
    ] = None,
) -> int:
    """Print a VM's serial console. The log is bounded; what is older is gone.

    \b
    Examples:
      banger vm logs dev -n 50
      banger vm logs -f dev
    """
    session = session_of(ctx)
    record = session.farm.show(name)
    session.farm.require_here(record)
    path = session.settings.paths.serial_log(record.id)
    if not path.exists() and not follow:
        typer.echo(f"banger: {record.name} has no console log: it never ran, or is undone", err=True)
    said, position = read_log(path)
    _write(said if lines is None else b"".join(said.splitlines(keepends=True)[-lines:] if lines else []))
    if follow:
        for chunk in _news(path, position, session.farm, record.id):
            _write(chunk)
    return 0


def read_log(path: Path) -> tuple[bytes, int]:
    """Return the whole log, its older half first, and how far into the newer one that is."""
    older = path.with_name(f"{path.name}.1")
    said = older.read_bytes() if older.exists() else b""
    current = path.read_bytes() if path.exists() else b""
    return said + current, len(current)


def _news(path: Path, position: int, farm: Farm, vm_id: str) -> Iterator[bytes]:
    """Yield what is added to the log, until the VM is gone. A log that was turned over is read anew."""
    polls = 0
    while True:
        there = polls % _ASK_EVERY != 0 or farm.records.get(vm_id) is not None
        if path.exists():
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(position if position <= size else 0)
                if chunk := file.read():
                    yield chunk
                position = file.tell()
        if not there:
            return
        polls += 1
        time.sleep(_POLL_S)


def _write(said: bytes) -> None:
    """Write to stdout as it is; to a terminal without what would steer it, for the guest is not trusted."""
    if sys.stdout.isatty():
        said = _STEERING.sub(b"", said)
    sys.stdout.flush()
    sys.stdout.buffer.write(said)
    sys.stdout.buffer.flush()
