"""Cgroups of a farm's own: all farms of a machine have theirs in one place, and look for strays there."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mountns import private_mounts

_MOUNTS = Path("/proc/self/mounts")


@contextlib.contextmanager
def own_cgroups() -> Iterator[None]:
    """Show this thread, and what it starts, a cgroup of its own in each place where cgroups are mounted."""
    name = f"banger-chaos-{os.getpid()}"
    made = [place / name for place in _hierarchies()]
    try:
        with private_mounts():
            for group in made:
                group.mkdir()
                with contextlib.suppress(OSError):  # the first version hands nothing on
                    (group.parent / "cgroup.subtree_control").write_text("+cpu +memory +pids")
                subprocess.run(["mount", "--bind", group, group.parent], check=True)
            yield
    finally:
        for group in made:
            for one in (*group.glob("banger-*"), group):
                with contextlib.suppress(FileNotFoundError):
                    one.rmdir()


def _hierarchies() -> list[Path]:
    lines = [line.split() for line in _MOUNTS.read_text().splitlines()]
    return [Path(place) for _, place, kind, *_ in lines if kind in ("cgroup", "cgroup2")]
