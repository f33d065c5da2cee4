"""What the lab keeps between runs, outside of any clone: each thing by the digest of what it is made of."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import recipe
from lab.debian import make_debian
from lab.host_disk import make_host_disk

CACHE = Path(os.environ.get("BANGER_LAB_CACHE", "/var/cache/banger-lab"))
_SCRATCH = ".scratch-"
_KEPT = 2  # of each kind: today's, and the one before, for whoever works on two branches

Progress = Callable[[str], None]


def host_disk(progress: Progress) -> Path:
    """Return the directory with the host's disk, kernel and keys, made where it is not there yet."""
    with _locked(progress):
        host = CACHE / f"host-{recipe.host_digest()}"
        if not host.exists():
            debian = CACHE / f"debian-{recipe.debian_digest()}"
            if not debian.exists():
                _made(debian, make_debian, "the Debian of the lab's host", progress)
            _made(host, lambda target: make_host_disk(debian, target), "the lab's disk", progress)
        os.utime(host)
        _forget("host-*")
        _forget("debian-*")
    return host


def _made(target: Path, make: Callable[[Path], None], name: str, progress: Progress) -> None:
    started = time.monotonic()
    progress(f"making {name} ({target.name}); once")
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=CACHE))
    try:
        make(scratch / "made")
        (scratch / "made").rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    progress(f"made {name} in {time.monotonic() - started:.0f} s")


@contextmanager
def _locked(progress: Progress) -> Iterator[None]:
    """Hold the cache alone; what a killed build left in it goes."""
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (CACHE / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another run that makes the disk, which is then this one's as well")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in CACHE.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _forget(pattern: str) -> None:
    """Remove the oldest of a kind. A disk that a machine still runs on stays readable to it."""
    newest_first = sorted(CACHE.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest_first[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
