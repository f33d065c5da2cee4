"""The keeper's side of Firecracker's API, against a process that refuses what Firecracker refuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fake_firecracker
import pytest
from netns import private_network
from vmm_host import eventually, request

from banger.contracts import firecracker
from banger.contracts.firecracker import sequence
from banger.keeper import keeper

pytestmark = pytest.mark.integration

Ask = Callable[..., None]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with what a jail has in it; the names are those of the jail, less the leading slash."""
    with private_network(), tempfile.TemporaryDirectory(dir="/var/tmp", prefix="banger-test-api-") as made:
        here = Path(made)
        subprocess.run(["ip", "tuntap", "add", "bgr-x", "mode", "tap", "vnet_hdr"], check=True)
        (here / "kernel").write_text("say hello\n")
        for name in ("initrd", "vda", "vdb"):
            (here / name).touch()
        (here / "run").mkdir()
        for name in ("console", "metrics"):
            os.mkfifo(here / name)
        yield here


@pytest.fixture
def ask(place: Path) -> Iterator[Ask]:
    """Send a request as the keeper does; paths are those of the place."""
    readers = [os.open(place / name, os.O_RDONLY | os.O_NONBLOCK) for name in ("console", "metrics")]
    path = place / "run" / keeper.API_SOCKET
    vmm = subprocess.Popen([sys.executable, "-IS", fake_firecracker.__file__, "--api-sock", str(path)])
    directory, home = os.open(place / "run", os.O_PATH | os.O_DIRECTORY), Path.cwd()

    def send(where: str, body: Any, method: str = "PUT") -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        for name in ("kernel", "initrd", "vda", "vdb", "console", "metrics", "run/vsock.socket"):
            text = text.replace(f'"/{name}"'.encode(), f'"{place}/{name}"'.encode())
        try:
            keeper.request(directory, method, where, text)
        finally:
            os.chdir(home)

    try:
        eventually(lambda: listens(path))
        yield send
    finally:
        vmm.kill()
        vmm.wait()
        for fd in (*readers, directory):
            os.close(fd)


def whole(**changes: Any) -> tuple[firecracker.Request, ...]:
    wanted = request().model_copy(update=changes)
    return sequence(wanted, "bgr-x", "02:fc:ac:10:00:07", 8, 2)


def configure(ask: Ask, *, but: str = "") -> None:
    for one in whole()[:-1]:
        if one.path != but:
            ask(one.path, one.body)


def start(ask: Ask) -> None:
    configure(ask)
    ask("/actions", whole()[-1].body)


def test_the_whole_sequence_is_taken(ask, place):
    for one in whole(disk_rate_mib_s=1, disk_ops_s=1, net_rate_mib_s=1):
        ask(one.path, one.body)


@pytest.mark.parametrize("path", [one.path for one in whole()])
def test_nothing_is_changed_after_the_start(ask, path):
    start(ask)
    body = next(one.body for one in whole() if one.path == path)
    with pytest.raises(OSError, match="not supported after starting"):
        ask(path, body)


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/boot-source", "kernel"),
        ("/boot-source", "initrd"),
        ("/drives/vda", "vda"),
    ],
)
def test_what_is_not_in_the_jail_is_refused(ask, place, path, missing):
    (place / missing).unlink()
    with pytest.raises(OSError, match="No such"):
        ask(path, next(one.body for one in whole() if one.path == path))


def test_a_start_without_a_kernel_is_refused(ask):
    configure(ask, but="/boot-source")
    with pytest.raises(OSError, match="without kernel"):
        ask("/actions", whole()[-1].body)


def test_keys_before_the_start_are_refused(ask):
    with pytest.raises(OSError, match="not supported before starting"):
        ask("/actions", firecracker.ctrl_alt_del().body)


@pytest.mark.parametrize(
    ("path", "body", "method", "why"),
    [
        ("/logger", {"colour": "red"}, "PUT", "unknown field"),
        (
            "/drives/vdc",
            {"drive_id": "vda", "is_root_device": False, "path_on_host": "/vda"},
            "PUT",
            "not match",
        ),
        ("/drives/vdz", {"drive_id": "vdz"}, "PATCH", "not supported before starting"),
        ("/machine-config", {"vcpu_count": 33, "mem_size_mib": 64}, "PUT", "invalid"),
        ("/machine-config", {"vcpu_count": 1}, "PUT", "missing field"),
        ("/nothing", {}, "PUT", "Invalid request"),
        ("/logger", b"{", "PUT", "400"),
        ("/logger", b" " * (firecracker.MAX_BODY_BYTES + 1), "PUT", "413"),
    ],
)
def test_what_firecracker_refuses_is_told_in_its_words(ask, path, body, method, why):
    with pytest.raises(OSError, match=why):
        ask(path, body, method)


def test_a_drive_that_is_unknown_is_not_changed(ask):
    start(ask)
    with pytest.raises(OSError, match="unknown drive vdz"):
        ask("/drives/vdz", {"drive_id": "vdz"}, "PATCH")


@contextmanager
def answered_by(place: Path, answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Yield the directory of a socket of which one line is answered."""
    directory, home = os.open(place / "run", os.O_PATH | os.O_DIRECTORY), Path.cwd()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(place / "run" / keeper.API_SOCKET))
    listener.listen()
    answering = threading.Thread(target=lambda: answer(listener.accept()[0]))
    answering.start()
    try:
        yield directory
    finally:
        answering.join()
        listener.close()
        os.chdir(home)
        os.close(directory)


def test_one_that_hangs_up_has_not_answered(place):
    with (
        answered_by(place, lambda line: line.close()) as directory,
        pytest.raises(OSError, match=r"hung up|reset|Broken pipe"),
    ):
        keeper.request(directory, "PUT", "/logger", b"{}")


def test_one_that_answers_a_byte_at_a_time_is_not_waited_for_longer(place):
    asked_for = threading.Event()

    def trickle(line: socket.socket) -> None:
        with line, suppress(BrokenPipeError):
            while not asked_for.wait(0.05):
                line.send(b"H")

    with answered_by(place, trickle) as directory:
        began = time.monotonic()
        try:
            with pytest.raises(TimeoutError):
                keeper.request(directory, "PUT", "/actions", b"{}", 0.3)
        finally:
            asked_for.set()
        assert time.monotonic() - began < 5


def test_a_socket_is_reached_however_long_the_way_to_it_is(place):
    far = place.joinpath(*["a-directory-with-a-long-name"] * 6)
    far.mkdir(parents=True)
    argv = (sys.executable, "-IS", fake_firecracker.__file__, "--api-sock", keeper.API_SOCKET)
    directory, home = os.open(far, os.O_PATH | os.O_DIRECTORY), Path.cwd()
    vmm = subprocess.Popen(argv, cwd=far)
    try:
        os.chdir(far)
        eventually(lambda: listens(Path(keeper.API_SOCKET)))
        os.chdir(home)
        with pytest.raises(OSError, match="Invalid request"):
            keeper.request(directory, "PUT", "/nothing", b"{}")
    finally:
        os.chdir(home)
        os.close(directory)
        vmm.kill()
        vmm.wait()


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        return line.connect_ex(str(path)) == 0
