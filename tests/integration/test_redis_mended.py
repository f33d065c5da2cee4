"""A real Redis on a disk that was full, and killed: it does not start again unless its file is mended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from farm_box import eventually

from banger.embedded.redis_server import damaged_aof
from banger.shell import find_tool

pytestmark = pytest.mark.integration

SMALL = 16 * 1024 * 1024
VALUE = "v" * 20_000  # of several blocks, so that some of it fits on a full disk and some does not


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Yield Redis' directory, on a small file system of its own."""
    backing, place = tmp_path / "small.ext4", tmp_path / "redis"
    place.mkdir()
    backing.touch()
    os.truncate(backing, SMALL)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", backing], check=True)
    subprocess.run(["mount", "-o", "loop", backing, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def argv_of(data: Path) -> tuple[str, ...]:
    """Return a Redis like a farm's own, on a socket alone."""
    options = f"--port 0 --unixsocket {data}/s --appendonly yes --appendfsync everysec --daemonize no"
    return (find_tool("redis-server"), "--dir", str(data), "--save", "", *options.split())


def mending(data: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "banger.embedded.redis_server", str(data))


@contextlib.contextmanager
def running(argv: tuple[str, ...], data: Path) -> Iterator[Any]:
    """Yield a client of a Redis, which is killed at the end: nothing is flushed, no socket removed."""
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=f"{data}/s", decode_responses=True)
    try:
        eventually(lambda: answers(client))
        yield client
    finally:
        client.close()
        server.kill()
        server.wait()


def answers(client: Any) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def takes(client: Any, key: str) -> bool:
    with contextlib.suppress(redis.ResponseError):
        return bool(client.set(key, VALUE))
    return False


def last_increment(data: Path) -> Path:
    return max((data / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


@pytest.fixture
def damaged(data: Path) -> Path:
    """Leave a file with a hole: rewritten once, then a disk that was full, and had room again."""
    with running(argv_of(data), data) as client:
        client.set("before", VALUE)
        client.bgrewriteaof()
        eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        eventually(lambda: not client.info("persistence")["aof_rewrite_scheduled"])
        assert takes(client, "rewritten")
        filler = data / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        os.truncate(filler, filler.stat().st_size - 8192)  # room for a part of a command
        eventually(lambda: not takes(client, "on a full disk"))
        filler.unlink()
        eventually(lambda: takes(client, "with room again"))
        client.set("after", VALUE)
        eventually(lambda: not client.info("persistence")["aof_buffer_length"])
    return data


def test_a_hole_is_filled_and_nothing_is_lost(damaged: Path) -> None:
    refused = subprocess.run(argv_of(damaged), capture_output=True, text=True, timeout=10, check=False)
    assert refused.returncode == 1
    assert "Bad file format reading the append only file" in refused.stdout
    with running((*mending(damaged), *argv_of(damaged)), damaged) as client:
        assert {"before", "rewritten", "with room again", "after"} <= set(client.keys())
        assert client.get("after") == VALUE
        assert client.set("more", VALUE)
        eventually(lambda: not client.info("persistence")["aof_buffer_length"])
    assert not damaged_aof(damaged).exists()
    with running(argv_of(damaged), damaged) as client:
        assert client.get("more") == VALUE


def test_what_is_no_hole_is_cut_off_and_kept_aside_once(damaged: Path) -> None:
    subprocess.run(mending(damaged), check=True)
    for junk in (b"first", b"second"):
        with last_increment(damaged).open("ab") as file:
            file.write(junk + bytes(32))
        said = subprocess.run(mending(damaged), capture_output=True, text=True, check=True).stdout
        assert f"its last {len(junk) + 32} bytes are cut off" in said
        assert damaged_aof(damaged).read_bytes().endswith(junk + bytes(32))
    assert [path.name for path in damaged.glob("damaged*")] == ["damaged.aof"]
    with running(argv_of(damaged), damaged) as client:
        assert client.get("after") == VALUE


def test_what_is_well_or_not_there_is_left_alone(data: Path) -> None:
    subprocess.run(mending(data), check=True)
    with running((*mending(data), *argv_of(data)), data) as client:
        client.set("key", "value")
        eventually(lambda: not client.info("persistence")["aof_buffer_length"])
    before = last_increment(data).read_bytes()
    said = subprocess.run(mending(data), capture_output=True, text=True, check=True).stdout
    assert "mended" not in said
    assert last_increment(data).read_bytes() == before


def test_a_disk_that_is_full_still_keeps_it_as_it_was(damaged: Path) -> None:
    subprocess.run(mending(damaged), check=True)
    with last_increment(damaged).open("ab") as file:
        file.write(b"junk")
    before = last_increment(damaged).read_bytes()
    filler = damaged / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    said = subprocess.run(mending(damaged), capture_output=True, text=True, check=True).stdout
    assert "could not be looked at, or not be mended" in said
    assert last_increment(damaged).read_bytes() == before
    filler.unlink()
    assert not list(damaged.glob("damaged*"))


def test_nobody_mends_the_files_of_a_redis_that_lives(data: Path) -> None:
    with running((*mending(data), *argv_of(data)), data) as client:
        client.set("key", "value")
        second = subprocess.run(mending(data), capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert "another Redis has" in second.stderr
    subprocess.run(mending(data), check=True)
