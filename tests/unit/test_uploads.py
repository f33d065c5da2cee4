"""A batch's upload is brought to a host once, and holds up no other batch's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from banger.contracts.names import HostPaths
from workers.host import WorkHost
from workers.uploads import open_upload

SLOW, QUICK = "a" * 12, "b" * 12


class SlowHost:
    """One that takes its time over one batch's upload."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.asked_slow = threading.Event()
        self.answers = threading.Event()

    def pieces(self, _host: str, batch: str, _file: str) -> Iterator[bytes]:
        self.asked.append(batch)
        if batch == SLOW:
            self.asked_slow.set()
            assert self.answers.wait(10)
        yield batch.encode()


def test_an_upload_that_is_slow_to_come_holds_up_no_other_batchs(tmp_path: Path) -> None:
    host = WorkHost("here", HostPaths(tmp_path, tmp_path), IPv4Network("172.16.0.0/24"), 300_000)
    far: Any = SlowHost()

    def read(batch: str) -> bytes:
        with open_upload(host, batch, "there", far) as file:
            return file.read()

    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(read, SLOW) for _ in range(2)]
        assert far.asked_slow.wait(10)
        try:
            assert read(QUICK) == QUICK.encode()
        finally:
            far.answers.set()
        assert [one.result(10) for one in waiting] == [SLOW.encode()] * 2
    assert sorted(far.asked) == [SLOW, QUICK]  # both jobs of the one had it of one asking
