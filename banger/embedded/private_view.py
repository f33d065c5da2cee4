"""Cover directories in this process's own mount namespace, then become another program.

``python -m banger.embedded.private_view STAGING COVERS ARGV…``, run by root behind ``unshare --mount``.
Each cover is built aside on a tmpfs, where its sources can still be seen, and moved into place whole.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from banger.embedded.view import Cover
from banger.shell import find_tool, run

DEADLINE_S = 10


def main(arguments: list[str]) -> None:
    """Do what the arguments say; does not return."""
    staging, wire, *argv = arguments
    for directory, read_only, writable in json.loads(wire):
        cover(Cover(Path(directory), tuple(map(Path, read_only)), tuple(map(Path, writable))), Path(staging))
    os.execv(argv[0], argv)  # noqa: S606 - our own plan's argv, absolute, no shell


def cover(what: Cover, staging: Path) -> None:
    """Cover one directory; the staging directory is free again afterwards."""
    _mount("-t", "tmpfs", "-o", "mode=0755,size=1m,nosuid,nodev", "banger-view", str(staging))
    for path in (*what.read_only, *what.writable):
        place = staging / path.relative_to(what.directory)
        place.mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(path), str(place))
        if path in what.read_only:
            _mount("-o", "remount,bind,ro", str(place))
    _mount("-o", "remount,ro", str(staging))
    _mount("--move", str(staging), str(what.directory))


def _mount(*arguments: str) -> None:
    run((find_tool("mount"), *arguments), deadline_s=DEADLINE_S)


if __name__ == "__main__":
    main(sys.argv[1:])
