"""A disk that is slow: in both workers, each change of a file and each sync takes a random while longer.

There is no device-mapper where the tests run, whose ``delay`` would do this for tools as well. What counts is
the time between one change and the next, in which others act, claims and leases grow old, and kills strike.
Standard library only: a box has its copy, which its workers' apps import.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONGEST_S = 0.5
_LOOK_S = 0.2
_CHANGES = frozenset(
    {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.link"}
)
_WRITING = os.O_WRONLY | os.O_RDWR
_NO_DISK = ("/dev/", "/proc/", "/sys/")


def slow(file: Path, longest_s: float) -> None:
    """Let each change take up to this much longer, from a moment from now on; 0: as fast as ever."""
    scratch = file.with_suffix(".new")
    scratch.write_text(str(longest_s))
    scratch.chmod(0o644)
    scratch.replace(file)


def install(file: Path) -> None:
    """Have this process's changes be as slow as the file says; a hook cannot be taken away again."""
    longest_s, looked = 0.0, float("-inf")

    def wait() -> None:
        nonlocal longest_s, looked
        if (now := time.monotonic()) - looked > _LOOK_S:
            looked, longest_s = now, float(file.read_text())
        if longest_s:
            time.sleep(random.uniform(0, longest_s))

    def hook(name: str, args: tuple[Any, ...]) -> None:
        if name in _CHANGES or (name == "open" and _writes(*args)):
            wait()

    sys.addaudithook(hook)
    for name in ("fsync", "fdatasync", "posix_fallocate"):
        setattr(os, name, _after(wait, getattr(os, name)))


def _writes(path: Any, _mode: Any, flags: Any) -> bool:
    if not isinstance(flags, int) or not flags & _WRITING:
        return False
    return isinstance(path, str | bytes | os.PathLike) and not os.fsdecode(path).startswith(_NO_DISK)


def _after(wait: Callable[[], None], act: Callable[..., Any]) -> Callable[..., Any]:
    def acted(*args: Any, **kwargs: Any) -> Any:
        wait()
        return act(*args, **kwargs)

    return acted
