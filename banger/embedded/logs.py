"""The services' logs, read from their files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from banger.advice import START
from banger.contracts.errors import NotFoundError
from banger.embedded.paths import farm_paths
from banger.settings import Settings

POLL_S = 0.2


class LogLine(NamedTuple):
    """A line of a service's log."""

    service: str
    text: str


def logs(settings: Settings, service: str | None = None, *, follow: bool = False) -> Iterator[LogLine]:
    """Yield the lines of one service's log, or of all; with ``follow``, wait for more without an end."""
    files = {path.stem: path for path in sorted(farm_paths(settings).logs.glob("*.log"))}
    if not files:
        raise NotFoundError(
            "this farm has no logs yet", details=str(farm_paths(settings).logs), resolution=START
        )
    if service is not None:
        if service not in files:
            raise NotFoundError(
                f"no log of a service {service!r}", resolution=f"There are: {', '.join(files)}."
            )
        files = {service: files[service]}
    positions = dict.fromkeys(files, 0)
    while True:
        for name, path in files.items():
            lines, positions[name] = _lines_from(path, positions[name])
            yield from (LogLine(name, line) for line in lines)
        if not follow:
            return
        time.sleep(POLL_S)


def _lines_from(path: Path, position: int) -> tuple[list[str], int]:
    """Return the whole lines after the position, and where they end; an emptied log is read anew."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(position if position <= size else 0)
        data = file.read()
        start = file.tell() - len(data)
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode(errors="replace").splitlines(), start + len(whole)
