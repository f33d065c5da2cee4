"""What comes before Redis: its append-only files are looked at and, where damaged, mended, as its own user.

``python -m banger.embedded.redis_server DIRECTORY [ARGV...]`` does that and then becomes ARGV. A start that
cannot be helped is left to Redis, which says why it does not start.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import re
import shutil
import sys
import time
from pathlib import Path

from banger.contracts.errors import ToolFailedError
from banger.embedded.append_only import holes, remark
from banger.shell import become, find_tool, run

CHECK_DEADLINE_S = 60
LOCK_DEADLINE_S = 10
LOCK_POLL_S = 0.05
_INCREMENT = re.compile(r"^file (\S+) seq \d+ type i$", re.MULTILINE)

log = logging.getLogger("banger.redis")


def mend(data: Path) -> None:
    """Make the append-only files such that Redis can load them. Nobody may be writing to them.

    ``data`` is Redis' directory. Holes are filled, which loses nothing. What makes no sense after that is cut
    off, from there to the end, by Redis' own tool; the last file is kept as it was then, in ``damaged_aof``.
    ToolFailedError or OSError where a tool fails or the disk is full; the next call goes on then.
    """
    directory = data / "appendonlydir"
    manifest = directory / "appendonly.aof.manifest"
    if not manifest.exists() or _is_good(manifest):
        return
    increments = [directory / name for name in _INCREMENT.findall(manifest.read_text())]
    for file in increments:
        if filled := _fill_holes(file):
            log.warning("%s had holes, of %d bytes, and is mended; nothing is lost", file.name, filled)
    if increments and not _is_good(manifest):
        _cut_off(manifest, increments[-1], damaged_aof(data))


def damaged_aof(data: Path) -> Path:
    """Return where the file that was cut last is kept as it was."""
    return data / "damaged.aof"


def _is_good(manifest: Path) -> bool:
    check = (find_tool("redis-check-aof"), str(manifest))
    return run(check, deadline_s=CHECK_DEADLINE_S, good=(0, 1)).code == 0


def _fill_holes(file: Path) -> int:
    """Fill a file's holes in place, first to last, and return how many bytes that took.

    Where this ends in the middle, the next one goes on: what it has filled is a remark, the rest a hole.
    """
    if not file.stat().st_size:
        return 0
    filled = 0
    with file.open("r+b", buffering=0) as target:
        with mmap.mmap(target.fileno(), 0, access=mmap.ACCESS_READ) as seen:
            found = [hole for hole in holes(seen) if hole.end - hole.start > 1]
        for hole in found:
            text = remark(hole.end - hole.start)
            target.seek(hole.start)
            while text:
                text = text[target.write(text) :]
            filled += hole.end - hole.start
        os.fsync(target.fileno())
    return filled


def _cut_off(manifest: Path, last: Path, kept: Path) -> None:
    """Keep a copy of the last file, and cut it where it stops making sense."""
    scratch = kept.with_suffix(".new")
    try:
        shutil.copyfile(last, scratch)
        scratch.replace(kept)
    finally:
        scratch.unlink(missing_ok=True)
    before = last.stat().st_size
    fix = (find_tool("redis-check-aof"), "--fix", str(manifest))
    said = run(fix, deadline_s=CHECK_DEADLINE_S, good=(0, 1), stdin=b"y\n")
    lost = before - last.stat().st_size
    log.warning("%s is damaged: its last %d bytes are cut off; %s is as it was", last.name, lost, kept)
    if said.code:
        log.error("%s is still damaged: %s", manifest.parent, said.stdout[-500:].decode(errors="replace"))


def _hold(data: Path) -> None:
    """Take the lock that says that a Redis has these files; Redis keeps it as long as it lives.

    TimeoutError when another one has it: it is on its way out, perhaps, and may still write.
    """
    fd = os.open(data / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_DEADLINE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another Redis has {data}") from None
            time.sleep(LOCK_POLL_S)
    os.set_inheritable(fd, True)


def main() -> None:
    """Mend, and become what the arguments say."""
    logging.basicConfig(format="[%(asctime)s] %(message)s", level=logging.INFO, stream=sys.stdout)
    data, argv = Path(sys.argv[1]), sys.argv[2:]
    try:
        _hold(data)
    except TimeoutError as error:
        raise SystemExit(str(error)) from None
    try:
        mend(data)
    except (ToolFailedError, OSError) as error:
        log.warning("Redis' files could not be looked at, or not be mended: %s", error)
    if argv:
        become(argv)


if __name__ == "__main__":
    main()
